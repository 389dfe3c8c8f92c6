"""Synopses as recipients want them: a press sheet as Word or HTML, XMLTV, JSON-LD, CSV, JSON, plain text."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from synopsis_writer.characters import format_json
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, InputError
from synopsis_writer.formats.reading import FORMULA, SHEET_STYLE, needing_extra
from synopsis_writer.storage.files import read_input

MOST_GUIDE, _MOST_MARKS = 50_000_000, 2_000_000  # bytes of an XMLTV guide, and its tags and attributes
_LONGEST_TEXT = 100_000  # characters
_LONGEST_PROPERTY = 255  # characters of a Word file's property, by the format
_CSV_COLUMNS = "show form title logline characters text language model digital_source_type release".split()


class Sheet(NamedTuple):
    """The exported content of one synopsis."""

    title: str
    text: str
    show: str
    form: str
    logline: str
    people: tuple[tuple[str, str], ...]  # name and role of each
    fields: Mapping[str, Any]  # all else of its front matter, with the record of its release
    language: str = "de-DE"

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs of the text."""
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]

    @property
    def release(self) -> Mapping[str, Any]:
        """The record of its release; empty where nobody released it."""
        record = self.fields.get("release")
        return record if isinstance(record, Mapping) else {}

    @property
    def source_type(self) -> str:
        """IPTC's digital source type (cv.iptc.org/newscodes/digitalsourcetype); empty for a person's text."""
        if "model" not in self.fields:
            return ""
        by_both = self.release.get("person_share")
        return "CompositeWithTrainedAlgorithmicMedia" if by_both else "TrainedAlgorithmicMedia"

    @property
    def record(self) -> str:
        """Who answers for the text and how it came about, in a German line; empty if unknown."""
        parts = [f"Entwurf: {self.fields['model']}"] if "model" in self.fields else []
        if self.release:
            parts.append(f"freigegeben von {self.release.get('by')} am {str(self.release.get('at'))[:10]}")
        return xml_text(", ".join(parts))


def sheet_of(document: Document, language: str = "de-DE") -> Sheet:
    """Return the sheet of a saved synopsis, or of any text with a title; raises InputError."""
    meta = dict(document.meta)
    if document.has_changed:
        del meta["release"]  # nobody answers for this text
    asked = brief if isinstance(brief := meta.get("brief"), Mapping) else {}
    if len(document.text) > _LONGEST_TEXT:
        raise InputError(f"{document.path}: has over {_LONGEST_TEXT:,} characters: that is no synopsis")
    people = meta.pop("characters", None)
    listed = [person for person in people if isinstance(person, Mapping)] if isinstance(people, list) else []
    title, logline = meta.pop("title", "") or document.path.stem.replace("-", " "), meta.pop("logline", "")
    show, form = (str(asked.get(name, "")) for name in ("show", "form"))
    pairs = tuple((str(one.get("name", "")), str(one.get("role", ""))) for one in listed)
    return Sheet(title, document.text, show, form, str(logline), pairs, meta, language)


def _json_sheets(sheets: Sequence[Sheet]) -> bytes:
    data = [
        {
            "title": sheet.title,
            "logline": sheet.logline,
            "characters": [{"name": name, "role": role} for name, role in sheet.people],
            "text": sheet.text,
            "language": sheet.language,
            **({"digital_source_type": sheet.source_type} if sheet.source_type else {}),
            **sheet.fields,
        }
        for sheet in sheets
    ]
    return _json(data[0] if len(data) == 1 else data)


def _json(data: Any) -> bytes:
    return (format_json(data, 2) + "\n").encode("utf-8")


def _csv_sheets(sheets: Sequence[Sheet]) -> bytes:
    lines = [csv_record(_CSV_COLUMNS)]
    for sheet in sheets:
        people = "; ".join(f"{name}: {role}" for name, role in sheet.people)
        record = format_json(sheet.release) if sheet.release else None
        content = (sheet.show, sheet.form, sheet.title, sheet.logline, people, sheet.text)
        origin = (sheet.language, sheet.fields.get("model"), sheet.source_type or None, record)
        lines.append(csv_record((*content, *origin)))
    return "".join(lines).encode("utf-8-sig")  # for spreadsheets


def linked_data(sheet: Sheet) -> dict[str, Any]:
    """Return a synopsis as schema.org's TVEpisode."""
    release = sheet.release
    digest = {"@type": "PropertyValue", "propertyID": "sha256", "value": str(release.get("text_sha256"))}
    data = {
        "@type": "TVEpisode",
        "name": sheet.title,
        "description": sheet.text,
        "inLanguage": sheet.language,
        "abstract": sheet.logline,
        "partOfSeries": sheet.show and {"@type": "TVSeries", "name": sheet.show},
        "character": [{"@type": "Person", "name": name, "description": role} for name, role in sheet.people],
        "digitalSourceType": sheet.source_type and f"https://schema.org/{sheet.source_type}DigitalSource",
        "editor": release and {"@type": "Person", "name": str(release.get("by"))},
        "dateModified": release and str(release.get("at")),
        "identifier": release and digest,
    }
    return {name: value for name, value in data.items() if value}


def _graph(sheets: Sequence[Sheet]) -> dict[str, Any]:
    episodes = [linked_data(sheet) for sheet in sheets]
    context = {"@context": "https://schema.org"}
    return {**context, **(episodes[0] if len(episodes) == 1 else {"@graph": episodes})}


def _html_sheets(sheets: Sequence[Sheet]) -> bytes:
    from jinja2 import Environment

    source = files("synopsis_writer.formats").joinpath("sheet.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    # In a script element, JSON must not close it, nor begin a comment.
    inside = format_json(_graph(sheets)).replace("<", "\\u003c")
    return template.render(sheets=sheets, linked_data=inside).encode("utf-8")


def docx_sheets(sheets: Sequence[Sheet]) -> bytes:
    """Return a Word file, each synopsis on a page of its own; raises SettingsError without the extra."""
    with needing_extra("this format"):
        import docx
        from docx import oxml
        from docx.enum.style import WD_STYLE_TYPE
        from docx.enum.text import WD_BREAK
    sheets, file = [_for_xml(sheet) for sheet in sheets], docx.Document()
    first, normal, language = sheets[0], file.styles["Normal"], oxml.OxmlElement("w:lang")
    language.set(oxml.ns.qn("w:val"), first.language)
    normal.element.get_or_add_rPr().append(language)
    file.styles.add_style(SHEET_STYLE, WD_STYLE_TYPE.PARAGRAPH).base_style = normal
    origins = "; ".join(dict.fromkeys(filter(None, map(_origin, sheets))))
    author = xml_text(str(first.release.get("by", "")))
    properties = {"title": first.title, "language": first.language, "author": author, "comments": origins}
    for name, value in properties.items():
        setattr(file.core_properties, name, value[:_LONGEST_PROPERTY])

    def add(text: str, emphasis: str) -> None:
        if text:
            setattr(file.add_paragraph("", SHEET_STYLE).add_run(text), emphasis, True)

    for number, sheet in enumerate(sheets):
        if number:
            file.add_paragraph("", SHEET_STYLE).add_run().add_break(WD_BREAK.PAGE)
        add(sheet.show, "bold")
        file.add_heading(sheet.title, 1)
        add(sheet.logline, "italic")
        for paragraph in sheet.paragraphs:
            file.add_paragraph(paragraph)
        add("Personen" if sheet.people else "", "bold")
        for name, role in sheet.people:
            file.add_paragraph(f"{name}: {role}", SHEET_STYLE)
        add(sheet.record, "italic")
    buffer = io.BytesIO()
    file.save(buffer)
    return buffer.getvalue()


def _origin(sheet: Sheet) -> str:
    kind = f"digitalSourceType {sheet.source_type}" if sheet.source_type else ""
    digest = f"SHA-256 of the text {sheet.release['text_sha256']}" if "text_sha256" in sheet.release else ""
    return xml_text(", ".join(part for part in (kind, sheet.record, digest) if part))


def _for_xml(sheet: Sheet) -> Sheet:
    people = tuple((xml_text(name), xml_text(role)) for name, role in sheet.people)
    texts: Any = {name: xml_text(getattr(sheet, name)) for name in ("title", "text", "show", "logline")}
    return sheet._replace(people=people, **texts)


def xml_text(text: str, instead: str = "") -> str:
    """Return `text` without the characters that XML 1.0 cannot hold, or with another in their place."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", instead, text)


class Slot(NamedTuple):
    """When and where a programme is: a channel's id, and its start and end, with their zone."""

    channel: str
    start: datetime
    stop: datetime | None = None


def xmltv_sheets(sheets: Sequence[Sheet], place: Slot | Path) -> tuple[bytes, list[Sheet]]:
    """Return an XMLTV guide, and the sheets without a programme: new for a slot, or one that is filled.

    In a guide that is there, a programme is a sheet's if title and sub-title are its show and title; only the
    description in the same language is replaced. Raises InputError.
    """
    with needing_extra("this format"):
        from lxml import etree
        from lxml.builder import E
    sheets, unplaced = [_for_xml(sheet) for sheet in sheets], list[Sheet]()
    if isinstance(place, Path):
        guide, unplaced = _fill_guide(sheets, place)
    elif len(sheets) > 1:
        raise InputError(f"{len(sheets)} synopses and one --start: export them singly, or --into a guide")
    else:
        sheet, name, lang = sheets[0], xml_text(place.channel), sheets[0].language[:2]
        moments = {"start": place.start, "stop": place.stop}
        times = {key: moment.strftime("%Y%m%d%H%M%S %z") for key, moment in moments.items() if moment}
        titles = [E.title(sheet.show, lang=lang)] if sheet.show else []
        titles.append(E("sub-title" if sheet.show else "title", sheet.title, lang=lang))
        programme = E.programme({**times, "channel": name}, *titles, E.desc(sheet.text, lang=lang))
        channel = E.channel(E("display-name", name), id=name)
        guide = E.tv({"generator-info-name": "synopsis-writer"}, channel, programme)
    kind: dict[str, Any] = {"encoding": "utf-8", "doctype": '<!DOCTYPE tv SYSTEM "xmltv.dtd">'}
    return etree.tostring(guide, xml_declaration=True, pretty_print=True, **kind), unplaced


def _fill_guide(sheets: Sequence[Sheet], path: Path) -> tuple[Any, list[Sheet]]:
    from lxml import etree
    from lxml.builder import E

    data = read_input(path, MOST_GUIDE, "split the guide by channel or day")
    if data.count(b"<") + data.count(b"=") > _MOST_MARKS:
        raise FileError(f"{path}: has over {_MOST_MARKS // 10**6} million tags: split it by channel or day")
    safe: dict[str, Any] = {"resolve_entities": "internal", "no_network": True, "load_dtd": False}
    try:
        guide = etree.fromstring(data, etree.XMLParser(remove_blank_text=True, **safe))
    except (etree.XMLSyntaxError, LookupError, ValueError) as error:
        raise FileError(f"{path}: is not XML: {str(error)[:200]}") from error
    if guide.tag != "tv":
        raise FileError(f"{path}: is no XMLTV guide: its root is <{str(guide.tag)[:40]}>, not <tv>")
    wanted: dict[tuple[str, str], Sheet] = {}
    for sheet in sheets:
        key = (_key(sheet.show), _key(sheet.title)) if sheet.show else (_key(sheet.title), "")
        if key in wanted:
            raise InputError(f"two texts for '{sheet.show}', '{sheet.title}': export the one that is meant")
        wanted[key] = sheet
    filled: set[tuple[str, str]] = set()
    for programme in guide.iterchildren("programme"):
        titles = {_key(title.xpath("string()")) for title in programme.iterchildren("title")}
        episodes = {_key(title.xpath("string()")) for title in programme.iterchildren("sub-title")} or {""}
        for key in set(product(titles, episodes)) & wanted.keys():
            filled.add(key)
            lang = wanted[key].language[:2]
            for old in programme.findall("desc"):
                if old.get("lang", lang)[:2] == lang:
                    programme.remove(old)
            before = [child for child in programme if child.tag in {"title", "sub-title"}]
            programme.insert(programme.index(before[-1]) + 1, E.desc(wanted[key].text, lang=lang))
    return guide.getroottree(), [sheet for key, sheet in wanted.items() if key not in filled]


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", text).casefold()).strip()


SHEETS: Mapping[str, Callable[[Sequence[Sheet]], bytes]] = {
    "docx": docx_sheets,
    "html": _html_sheets,
    "jsonld": lambda sheets: _json(_graph(sheets)),
    "csv": _csv_sheets,
    "json": _json_sheets,
    "txt": lambda sheets: "\n\n".join(f"{each.title}\n\n{each.text}\n" for each in sheets).encode("utf-8"),
}
"""The formats that need nothing but the sheets; XMLTV needs a slot or a guide."""


def export(documents: Sequence[Document], file_format: str, language: str = "de-DE") -> bytes:
    """Return documents as docx, html, jsonld, csv, json or txt; InputError says what cannot be exported."""
    if file_format not in SHEETS:
        raise InputError(f"no format '{file_format[:40]}': the formats are {', '.join(SHEETS)}")
    if not documents:
        raise InputError("nothing to export: name one document at least")
    return SHEETS[file_format]([sheet_of(document, language) for document in documents])


_LOST = {"txt": ("show", "logline", "people", "record"), "xmltv": ("logline", "people", "record")}
_LOST_NAMES = {"show": "the series", "people": "the people", "record": "how the text came about"}


def left_out(sheets: Iterable[Sheet], file_format: str) -> list[str]:
    """Return what the sheets have and a format cannot hold, a few words each."""
    lost = [name for name in _LOST.get(file_format, ()) if any(getattr(sheet, name) for sheet in sheets)]
    return [_LOST_NAMES.get(name, f"the {name}") for name in lost]


def csv_record(values: Iterable[Any]) -> str:
    """Return a CSV record; what would be run as a formula has an apostrophe, which `plain_text` takes off."""
    line = io.StringIO()
    texts = (str(value).lower() if isinstance(value, bool) else value for value in values)
    csv.writer(line).writerow([FORMULA.sub("'", each) if isinstance(each, str) else each for each in texts])
    return line.getvalue()
