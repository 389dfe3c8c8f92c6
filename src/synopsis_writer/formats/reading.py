"""Reads texts as editors have them: Markdown, plain text, Word, HTML, CSV, and what `write` saved."""

import contextlib
import csv
import io
import itertools
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synopsis_writer.answers import read_json
from synopsis_writer.characters import join_surrogates
from synopsis_writer.document import Document, check_values, decode, parse_document, read_text, read_yaml
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.storage.files import MOST_BYTES, find_files, read_input

_log = logging.getLogger(__name__)
MOST_UNPACKED = 5_000_000  # bytes of XML in a docx, which is a zip archive
MOST_FILE = 5_000_000  # bytes of a docx, html or csv file; plain text ends at 1 MB
MOST_COLUMNS, MOST_ROWS, _MOST_TAGS = 1_000, 20_000, 200_000
SHEET_STYLE = "Synopsis Data"  # of what a press sheet has around its text: no part of it when read back
_LONGEST_TITLE = 90  # characters
_LOCKED = b"\xd0\xcf\x11\xe0"  # an OLE container: an old .doc, or a docx under a password
_NO_TITLE_END = (".", "!", "?", "…", "“", "«", "»", '"', ":", ",", ";")
_SENTENCE_ENDS = (".", "!", "?", "…", "“", "”", "«", "»", '"', ")")
# What editors' programs write, the likeliest first; others are tried where none of these fits.
_BYTE_ENCODINGS, _WIDE_ENCODINGS = ["cp1252", "mac_roman", "cp850"], ["utf_16", "utf_16_le", "utf_16_be"]
_DEMO_LABEL = re.compile(r"\n\(demo draft: [^()\n]*\)\s*\Z")  # which `write` puts below the text

# What makes a spreadsheet take a cell for a formula, as OWASP's page on CSV injection lists it.
_SIGNS = "=+\\-@＝＋－＠"
# A cell begins where its text begins; and within it where a spreadsheet splits cells at semicolon or tab, as a
# German one does, and so takes no notice of quotes. Apostrophes before it: those that were added, or its own.
_BEGINS = rf"\A(?='*[{_SIGNS}\t\r\n])|(?<=[;\t\r\n])(?='*[{_SIGNS}])"
FORMULA = re.compile(_BEGINS)
_DISARMED = re.compile(_BEGINS.replace("(?='*", "'(?='*"))
_SEP = re.compile(r'"?sep=([^"\w\s]|\t)"?[,;]*', re.IGNORECASE)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"

_TABLES = read_yaml(read_text(Path(__file__).with_name("tables.yaml")), Path("tables.yaml"))[0]
_WORD, _HTML = _TABLES["word"], _TABLES["html"]
COLUMNS = {column: tuple(headings) for column, headings in _TABLES["columns"].items()}
"""The columns of a CSV of texts: what each means, and the headings it may have."""


@dataclass(frozen=True)
class Source:
    """One text of a file."""

    document: Document  # title and other fields in `meta`, and the text
    where: str  # the file, with the line of a CSV's row
    fields: Mapping[str, str]  # show, form and theme, as far as a CSV has them
    dropped: tuple[str, ...] = ()  # what became of what a text cannot hold, a clause each; logged, too


def read_sources(path: Path) -> list[Source]:
    """Read the texts of a file, one but for a CSV, without formatting; raises InputError or SettingsError."""
    most = MOST_FILE if path.suffix.lower() in _LARGER else MOST_BYTES
    return parse_sources(read_input(path, most, "that is no synopsis"), path)


def parse_sources(data: bytes, path: Path) -> list[Source]:
    """Read the texts of a file's content, of the kind that the suffix of `path` says; as `read_sources`."""
    with needing_extra(f"{path}: reading it"):
        sources = list(READERS.get(path.suffix.lower(), _read_markdown)(data, path))
    if not any(source.document.text for source in sources):
        raise FileError(f"{path}: holds no text: write one, or name another file")
    for source in sources:
        for dropped in source.dropped:
            _log.info("%s: %s", source.where, dropped)
    return sources


def read_source(path: Path) -> Source:
    """Read a file with one text; raises as `read_sources`, and FileError for a CSV with several."""
    sources = read_sources(path)
    if len(sources) > 1:
        raise FileError(f"{path}: holds {len(sources)} texts: save the one you mean as a file of its own")
    return sources[0]


def parse_source(data: bytes, path: Path) -> Source:
    """Read what a pipe holds: Markdown, plain text, or the JSON that `write` saves; raises InputError."""
    if len(data) > MOST_BYTES:
        raise FileError(f"{path}: is larger than 1 MB: that is no synopsis")
    is_json = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    return (_read_json if is_json else _read_text)(data, path)[0]


def replace_text(document: Document, text: str) -> tuple[str, str]:
    """Return a file's content, and the same with another text; raises FileError where that cannot be."""
    path = document.path
    if path.suffix.lower() in _LARGER or str(path) == "-":
        raise FileError(f"{path}: cannot be changed in place: save it as a .md or .txt file")
    try:
        raw = read_input(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8 (byte {error.start + 1}): save it as UTF-8 text") from error
    if path.suffix.lower() == ".json":
        old, new = (json.dumps(part, ensure_ascii=raw.isascii())[1:-1] for part in (document.text, text))
    else:
        line_end = "\r\n" if "\r\n" in raw else "\r" if "\r" in raw else "\n"
        old, new = document.text.replace("\n", line_end), text.replace("\n", line_end)
    head, found, tail = raw.rpartition(old)
    if not found:
        raise FileError(f"{path}: its text cannot be replaced, as line ends are mixed: save it again")
    return raw, head + new + tail


def text_files(folder: Path) -> list[Path]:
    """Return the files of texts below `folder`, sorted, or the file that it is; raises FileError for none."""
    if not folder.is_dir():
        return [folder]
    try:
        known = (path for path in find_files(folder, "**/*") if path.suffix.lower() in READERS)
        files = [path for path in known if path.is_file() and not _is_json_export(path)]
    except OSError as error:
        raise FileError(os_reason(error, folder)) from error
    if not files:
        raise FileError(f"{folder}: holds no text: put {', '.join(sorted(READERS))} files into it")
    return files


def _is_json_export(path: Path) -> bool:
    """Whether a file is what `export` writes of many texts as JSON, or of any as JSON-LD."""
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        head = file.read(100).lstrip()
    return head.startswith(b"[") or b'"@context"' in head


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, at most 300 characters."""
    match = re.match(r".{20,300}?[.!?…](?=\s|$)", text.strip().replace("\n", " "))
    return match[0] if match else text.strip()[:300]


def title_and_text(text: str) -> tuple[str, str]:
    """Split a short title line, as a rule set apart by a blank line, from the text below; it may be empty."""
    first, _, rest = text.strip().partition("\n")
    title = first.strip("#*_ \t")
    is_apart = rest.startswith("\n") or ("\n\n" not in text.strip() and not rest.lstrip()[:1].islower())
    if rest.strip() and is_apart and 0 < len(title) <= _LONGEST_TITLE and not title.endswith(_NO_TITLE_END):
        return title, rest.strip()
    return "", text.strip()


def paragraphs(text: str) -> list[str]:
    """Split a text at blank lines, or at line breaks if each line ends a sentence; blanks are joined."""
    blocks = [block for block in re.split(r"\n[ \t]*\n", text) if block.strip()]
    parts: list[str] = []
    for block in blocks:
        lines = [" ".join(line.split()) for line in block.splitlines() if line.strip()]
        ends_sentences = all(line.endswith(_SENTENCE_ENDS) for line in lines[:-1])
        parts += lines if ends_sentences else [" ".join(lines)]
    return parts


def _decode(data: bytes, path: Path) -> str:
    """Decode UTF-8 or UTF-16, else what charset-normalizer takes for the likeliest; raises FileError."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data
        likely = from_bytes(data, cp_isolation=_WIDE_ENCODINGS if is_wide else _BYTE_ENCODINGS)
        match = likely.best() or from_bytes(data).best()
        if match is None:
            raise FileError(f"{path}: is no text in a known encoding: save it as UTF-8 text") from None
        data = str(match).encode("utf-8")
    return decode(data, str(path))


def _source(path: Path, text: str, title: str = "", dropped: Iterable[str] = ()) -> list[Source]:
    title, body = (title, text) if title else title_and_text(text)
    return [Source(Document(path, {"title": title} if title else {}, body), str(path), {}, tuple(dropped))]


def _read_markdown(data: bytes, path: Path) -> list[Source]:
    return [Source(parse_document(_decode(data, path).encode("utf-8"), path), str(path), {})]


def _read_text(data: bytes, path: Path) -> list[Source]:
    raw = _decode(data, path)
    if raw.startswith("---\n"):  # front matter, as in Markdown
        return _read_markdown(data, path)
    [source] = _source(path, _DEMO_LABEL.sub("", raw))
    first_line = raw.count("\n", 0, max(0, raw.find(source.document.text))) + 1
    return [replace(source, document=replace(source.document, first_line=first_line))]


def _read_json(data: bytes, path: Path) -> list[Source]:
    hint = "write --format json saves title, paragraphs' storylines and text as one object"
    try:
        plain = check_values(read_json(_decode(data, path)))
        fields = json.loads(join_surrogates(json.dumps(plain, ensure_ascii=False)))
    except ValueError as error:
        raise FileError(f"{path}: not JSON: {str(error)[:200]}: {hint}") from error
    if not isinstance(fields, dict) or not isinstance(text := fields.pop("text", None), str):
        raise FileError(f"{path}: has no 'text': {hint}")
    return [Source(Document(path, fields, text.strip()), str(path), {})]


def _read_csv(data: bytes, path: Path) -> Iterator[Source]:
    records = csv_records(io.StringIO(_decode(data, path), newline=""), path)
    line, header, _ = next(records, (1, [], ""))
    names = [name.strip().lower() for name in header]
    if len(names) > MOST_COLUMNS:
        raise FileError(f"{path}:{line}: has {len(names)} columns, at most {MOST_COLUMNS} are read")
    found = ((column, name) for column, known in COLUMNS.items() for name in reversed(known))
    columns = {column: names.index(name) for column, name in found if name in names}
    if "text" not in columns:  # Pressetext, EPG-Inhalt (180)
        ends = [name.partition("(")[0].rstrip("0123456789 _-") for name in names]
        matches = [name for name, end in zip(names, ends, strict=True) if end.endswith(COLUMNS["text"])]
        if len(matches) != 1:
            one_of = f"no column of texts: call it one of {', '.join(COLUMNS['text'])}"
            several = f"several columns of texts, {', '.join(matches)}: call the one you mean 'text'"
            raise FileError(f"{path}:{line}: has {several if matches else one_of}")
        columns["text"] = names.index(matches[0])
    for count, (line, row, _) in enumerate(records):
        if count == MOST_ROWS:
            raise FileError(f"{path}:{line}: has more than {MOST_ROWS:,} rows: split the file")
        filled = {column: row[index].strip() for column, index in columns.items() if index < len(row)}
        cells = {column: plain_text(cell) for column, cell in filled.items() if cell}
        if body := "\n\n".join(paragraphs(cells.pop("text", ""))):
            title = {"title": cells.pop("title")} if "title" in cells else {}
            yield Source(Document(path, dict(title), body, {}, line), f"{path}:{line}", cells)


def csv_records(lines: Iterator[str], path: Path) -> Iterator[tuple[int, list[str], str]]:
    """Yield a CSV's records, each with the line it begins on and the delimiter; raises FileError.

    The delimiter is that of a line such as `sep=;`, which Excel reads, or else the commonest in the header.
    """
    header, first = next(lines, ""), 1
    if named := _SEP.fullmatch(header.rstrip("\r\n ")):
        header, first = next(lines, ""), 2
    delimiter = named[1] if named else max(",;\t", key=header.count)
    line, size = first, 0

    def counted() -> Iterator[str]:
        nonlocal size
        for each in itertools.chain([header], lines):  # a cell in quotes may have many lines
            size += len(each)
            if size > MOST_BYTES:
                raise FileError(f"{path}:{line}: the row that begins here is longer than 1 MB")
            yield each

    reader = csv.reader(counted(), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            yield line, record, delimiter
            line, size = reader.line_num + first, 0
    except csv.Error as error:
        way_out = "close each quote, put cells with quotes or line breaks in quotes, and double quotes in them"
        raise FileError(f"{path}:{line}: the row that begins here is not CSV ({error}): {way_out}") from error


def plain_text(cell: str) -> str:
    """Return the text of a cell, without the apostrophes that `sheets.csv_record` put before formulas."""
    return _DISARMED.sub("", cell)


@contextlib.contextmanager
def needing_extra(what: str) -> Iterator[None]:
    """Turn an ImportError in the block into a SettingsError that names the extra `formats`."""
    try:
        yield
    except ImportError as error:
        raise SettingsError(f"{what} needs an extra: pip install 'synopsis-writer[formats]'") from error


def _read_docx(data: bytes, path: Path) -> list[Source]:
    if data.startswith(_LOCKED):
        raise FileError(f"{path}: is an old .doc, or under a password: save it as .docx without one")
    import docx
    from docx.text.paragraph import Paragraph

    title, parts = "", list[str]()
    try:
        file = docx.Document(_unpacked(data, path))
        dropped = _settle_revisions(file)
        for element in file.element.body.iter(_W + "p"):
            block = Paragraph(element, file)
            content = block.text.replace("\xad", "").strip()
            style = block.style.name.lower() if block.style is not None else ""
            if not (title or parts) and style in {"title", "titel", "heading 1", "überschrift 1"}:
                title = " ".join(content.split())
            elif style != SHEET_STYLE.lower():
                parts += paragraphs(content)
    except FileError:
        raise
    except Exception as error:  # the libraries raise anything for a damaged file
        raise FileError(f"{path}: is no Word file, or damaged: save it again as .docx") from error
    return _source(path, "\n\n".join(parts), title, dropped)


def _unpacked(data: bytes, path: Path) -> io.BytesIO:
    """Return a Word file with its XML unpacked and all else empty: the sizes it declares may be wrong."""
    whole, left = io.BytesIO(), MOST_UNPACKED
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(whole, "w") as copy:
        # Other methods unpack at once, whatever is asked for.
        known = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        is_odd = any(item.compress_type not in known for item in archive.infolist())
        if is_odd or len(set(archive.namelist())) < len(archive.namelist()):
            raise zipfile.BadZipFile
        for item in archive.infolist():
            content = b""
            if item.filename.endswith((".xml", ".rels")):
                with archive.open(item) as part:
                    content = part.read(left + 1)
            left -= len(content)
            if left < 0:
                most = MOST_UNPACKED // 10**6
                raise FileError(f"{path}: unpacks to more than {most} MB: that is no synopsis")
            copy.writestr(item.filename, content)
    return whole


def _settle_revisions(file: Any) -> list[str]:
    """Accept the tracked changes of a Word file's body in place; return what a text cannot hold."""
    from lxml import etree

    body = file.element.body
    found = {element.tag.rpartition("}")[2] for element in body.iter("{*}*")}
    around = (part for section in file.sections for part in (section.header, section.footer))
    if any(block.text.strip() for part in around for block in part.paragraphs):
        found.add("header")
    hidden = ".//w:tr[w:trPr/w:del] | .//w:r[w:rPr/w:vanish[not(@w:val='0' or @w:val='false')]]"
    for unseen in body.xpath(hidden):
        unseen.getparent().remove(unseen)
    for paragraph in reversed(body.xpath(".//w:p[w:pPr/w:rPr/w:del or w:pPr/w:rPr/w:moveFrom]")):
        following = paragraph.getnext()  # the end of a paragraph was deleted: the next one goes on there
        if following is not None and following.tag == _W + "p":
            paragraph.extend([child for child in following if child.tag != _W + "pPr"])
            following.getparent().remove(following)
    etree.strip_elements(body, *(_W + tag for tag in _WORD["removed"].split()), with_tail=False)
    etree.strip_tags(body, *(_W + tag for tag in _WORD["unwrapped"].split()))
    for page_break in body.iter(_W + "br"):
        page_break.attrib.pop(_W + "type", None)  # read as the end of a line
    return _reported(_WORD, found)


def _read_html(data: bytes, path: Path) -> list[Source]:
    from lxml import etree, html

    if data.count(b"<") > _MOST_TAGS:
        raise FileError(f"{path}: has over {_MOST_TAGS:,} tags: that is no synopsis")
    declared = re.search(_HTML["charset"].encode("ascii"), data[:4_000])
    try:
        source = data.decode(declared[1].decode("ascii")) if declared else _decode(data, path)
    except (LookupError, UnicodeDecodeError):
        source = _decode(data, path)
    try:
        root = html.document_fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", source))
    except (etree.ParserError, ValueError) as error:
        raise FileError(f"{path}: is no HTML, or empty: save the page again") from error
    for element in root.find_class("synopsis-data"):  # what a press sheet has around its text
        element.drop_tree()
    tags = {str(element.tag) for element in root.iter()}
    heading, title = root.find(".//h1"), " ".join(root.findtext(".//title", "").split())
    if heading is not None:
        title = " ".join(heading.text_content().split())
        heading.drop_tree()
    etree.strip_elements(root, *_HTML["removed"].split(), etree.Comment, with_tail=False)
    pieces, blocks = list[str](), set(_HTML["blocks"].split())
    for event, element in etree.iterwalk(root, events=("start", "end")):
        is_start = event == "start"
        words = re.sub(r"\s+", " ", (element.text if is_start else element.tail) or "")
        line_ends = 2 if element.tag in blocks else int(is_start and element.tag == "br")
        pieces.append("\n" * line_ends + words)
    text = "\n\n".join(paragraphs("".join(pieces).replace("\xad", "")))
    return _source(path, text, title, _reported(_HTML, tags))


def _reported(table: Mapping[str, Any], tags: set[str]) -> list[str]:
    return [words for words, known in table["reported"].items() if tags & set(known.split())]


READERS: Mapping[str, Callable[[bytes, Path], Iterable[Source]]] = {
    ".csv": _read_csv, ".docx": _read_docx, ".htm": _read_html, ".html": _read_html,
    ".json": _read_json, ".markdown": _read_markdown, ".md": _read_markdown, ".txt": _read_text,
}  # fmt: skip
_LARGER = frozenset({".csv", ".docx", ".htm", ".html"})
