"""A Markdown file with YAML front matter: the format of examples, references, outlines and saved synopses."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from synopsis_writer.errors import FileError, InputError, explain
from synopsis_writer.storage.files import MOST_BYTES, read_input

# The loader in C is ten times quicker; a build of PyYAML without it has the other.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MOST_NESTED = 100
_OPENERS = re.compile(r"[\[{]|[-?][ \t]")  # each may begin a level on the same line
_DEEPEST = 6  # levels of fields whose lines are looked up
_FENCE = "---"
_Keys = tuple[str | int, ...]  # of a field: ("brief", "beats", 0)


@dataclass(frozen=True)
class Document:
    """Front matter and text of one file.

    Attributes:
        meta: the front matter; empty when the file has none.
        text: what follows it, stripped.
        lines: the line of each field of the front matter.
        first_line: the line on which the text begins, from 1.
    """

    path: Path
    meta: dict[str, Any]
    text: str
    lines: Mapping[_Keys, int] = field(default_factory=dict)
    first_line: int = 1

    def location(self, *keys: str | int) -> str:
        """Return `path:line` of the field at `keys`, or of the nearest field around it."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return f"{self.path}:{self.lines[keys[:length]]}"
        return f"{self.path}:1"

    def explain(self, error: ValidationError, *prefix: str) -> str:
        """Return where and why pydantic refused the front matter, with the line of the first error."""
        first = (*prefix, *error.errors(include_url=False)[0]["loc"])
        return f"{self.location(*first)}: {explain(error)}"


def read_text(path: Path) -> str:
    """Read a UTF-8 file of at most 1 MB; raises FileError."""
    return decode(read_input(path), str(path))


def decode(data: bytes, source: str) -> str:
    """Decode UTF-8 with any line ends; raises FileError for a binary, or another encoding."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{source}: is not UTF-8 (byte {error.start + 1}): save it as UTF-8 text") from error
    if "\0" in text:
        raise FileError(f"{source}: is a binary file: name a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_document(path: Path) -> Document:
    """Read a Markdown file; a file without front matter has an empty `meta`.

    Raises:
        FileError: as `read_text`.
        InputError: the front matter is not a YAML mapping, or is never closed; names file and line.
    """
    return _part(read_text(path), path)


def parse_document(data: bytes, path: Path) -> Document:
    """Read a Markdown text from a pipe, say, as `read_document` does; `path` names it in messages."""
    if len(data) > MOST_BYTES:
        raise FileError(f"{path}: is larger than 1 MB: that is no synopsis")
    return _part(decode(data, str(path)), path)


def _part(text: str, path: Path) -> Document:
    meta: dict[str, Any] = {}
    lines: dict[_Keys, int] = {}
    body = text
    if text.startswith(_FENCE + "\n"):
        head, fence, body = text[len(_FENCE) + 1 :].partition("\n" + _FENCE + "\n")
        if not fence:
            head, fence, body = text[len(_FENCE) + 1 :].rstrip().partition("\n" + _FENCE)
            if not fence or body:
                reason = "the front matter is never closed: end it with a line of three hyphens"
                raise InputError(f"{path}:1: {reason}")
        meta, lines = read_yaml(head, path, first_line=2)
    first_line = text.count("\n", 0, len(text) - len(body.lstrip())) + 1
    return Document(path, meta, body.strip(), lines, first_line)


def read_yaml(text: str, path: Path, first_line: int = 1) -> tuple[dict[str, Any], dict[_Keys, int]]:
    """Parse a YAML mapping; return its data, and the line of each field; raises InputError."""
    try:
        check_nesting(text)
        loader = YAML_LOADER(text)
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = first_line + (error.problem_mark.line if error.problem_mark else 0)
        reason = f"not YAML: {error.problem}: put values with a colon in quotes"
        raise InputError(f"{path}:{line}: {reason}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}:{first_line}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict) or node is None:
        raise InputError(f"{path}:{first_line}: no fields found: write them as 'name: value'")
    return data, {keys: first_line + line for keys, line in _lines(node)}


def check_nesting(text: str) -> None:
    """Raise yaml.MarkedYAMLError where YAML is so deeply nested that the loader in C would crash the process.

    Levels by indentation alone need more than 1 MB to get there.
    """
    if len(_OPENERS.findall(text)) <= _MOST_NESTED:
        return
    depth = 0
    for event in yaml.parse(text, Loader=YAML_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_NESTED:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)


Shape = TypeVar("Shape", bound=BaseModel)


def read_fields(path: Path, shape: type[Shape], wrong: type[InputError]) -> Shape:
    """Read a YAML file into a pydantic model; raises FileError, and `wrong` where it does not fit."""
    text = read_text(path)
    try:
        meta, lines = read_yaml(text, path)
        return shape.model_validate(meta)
    except ValidationError as error:
        raise wrong(Document(path, meta, "", lines).explain(error)) from error
    except InputError as error:
        raise wrong(str(error)) from error


def _lines(node: yaml.Node, keys: _Keys = ()) -> Iterator[tuple[_Keys, int]]:
    if len(keys) > _DEEPEST or isinstance(node, yaml.ScalarNode):  # an alias may lead round in a circle
        return
    is_list = isinstance(node, yaml.SequenceNode)
    for index, item in enumerate(node.value):
        first, value = (item, item) if is_list else item
        here = (*keys, index if is_list else str(first.value))
        yield here, first.start_mark.line
        yield from _lines(value, here)


def format_document(meta: Mapping[str, Any], text: str) -> str:
    """Return the file's text: front matter in the order of `meta`, a fence, the text, a line end."""
    return f"{_FENCE}\n{format_yaml(meta)}{_FENCE}\n\n{text.strip()}\n"


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

# What cannot be read as anything but text: it begins with a letter and has none of YAML's marks.
_PLAIN = re.compile(r"[A-Za-zÀ-ɏ](?:[0-9A-Za-zÀ-ɏ_ ,.()/;!?“„–’'-]*[0-9A-Za-zÀ-ɏ_,.()/;!?“„–’'-])?")

_WORDS = frozenset("true false null yes no on off y n".split())  # not read as text, in any case
_LONGEST_KEY = 100  # characters; PyYAML marks longer ones
_NESTED = frozenset({dict, list})
_AS_IN_JSON = frozenset({type(None), bool, int, dict, list})  # the last two are empty ones
_DECIMAL = re.compile(r"-?\d+\.\d+")


class _NotPlainError(Exception):
    """PyYAML must write these data."""


def format_yaml(data: Mapping[str, Any]) -> str:
    """Return `data` as readable YAML, as PyYAML writes it: in order, umlauts unescaped, long lines unbroken.

    PyYAML itself takes five times as long, and a batch may be exported to 100,000 files.
    """
    try:
        return "".join(_block_lines(data, "")) or "{}\n"
    except _NotPlainError:
        return _dumped(dict(data))


def _block_lines(data: Mapping[str, Any] | list[Any], indent: str) -> list[str]:
    lines: list[str] = []
    is_list = isinstance(data, list)
    for key, value in enumerate(data) if isinstance(data, list) else data.items():
        head = "-" if is_list else f"{_key(key)}:"
        if type(value) not in _NESTED or not value:
            lines.append(f"{indent}{head} {_scalar(value)}\n")
            continue
        # A list is indented like its key, anything else two columns more.
        inner = _block_lines(value, indent if type(value) is list and not is_list else indent + "  ")
        if is_list:
            lines += (f"{indent}- {inner[0].lstrip(' ')}", *inner[1:])
        else:
            lines += (f"{indent}{head}\n", *inner)
    return lines


@lru_cache(maxsize=1_000)
def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.isascii() or not 0 < len(key) <= _LONGEST_KEY:
        raise _NotPlainError
    return _scalar(key)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and "  " not in value and value.lower() not in _WORDS
        return value if is_plain else _quoted(value)
    if type(value) in _AS_IN_JSON or (type(value) is float and _DECIMAL.fullmatch(repr(value))):
        return json.dumps(value)
    raise _NotPlainError


@lru_cache(maxsize=1_000)
def _quoted(text: str) -> str:
    """Return one line of text as PyYAML writes it, quoted if it must be."""
    if not text.isprintable():
        raise _NotPlainError
    return _dumped(text).removesuffix("...\n").removesuffix("\n")


def _dumped(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000)
    return text
