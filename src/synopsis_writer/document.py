"""A Markdown file with YAML front matter: the format of examples, references, outlines and saved synopses."""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, ValuesView
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from synopsis_writer.errors import FileError, InputError, explain
from synopsis_writer.storage.files import MOST_BYTES, read_input

# The loader in C is ten times faster; some builds of PyYAML lack it.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_MERGE = "tag:yaml.org,2002:merge"
_DATE_LENGTH = len("2025-04-22")

MOST_LEVELS = 20
_DEEPEST = 6  # levels of fields whose lines are looked up
_MOST_EVENTS = 200_000
_MOST_DIGITS = 100  # of a number
_MOST_INT = 2**63 - 1
_MOST_SHOWN = 40  # characters of a wrong value
_FRONT_MATTER = re.compile(r"---\n(.*?)\n---(?:\n|\s*\Z)", re.DOTALL)
# A TOML name of so many parts: tomllib takes quadratic time for it.
_LONG_NAME = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){20}""")
_Keys = tuple[str | int, ...]  # of a field: ("brief", "beats", 0)


@dataclass(frozen=True)
class Document:
    """Front matter and text of one file; raises InputError for a title that is not a text."""

    path: Path
    meta: dict[str, Any]  # the front matter; empty when the file has none
    text: str  # what follows it, stripped
    lines: Mapping[_Keys, int] = field(default_factory=dict)  # of each field of the front matter
    first_line: int = 1  # of the text, from 1

    def __post_init__(self) -> None:
        if not isinstance(self.meta.get("title", ""), str):
            raise InputError(f"{self.location('title')}: 'title' is not a text: put it in quotes")

    @property
    def text_hash(self) -> str:
        """The SHA-256 of the text, in hex digits."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def has_changed(self) -> bool | None:
        """Whether the text was changed after its release; None where nobody released it."""
        record = self.meta.get("release")
        return record.get("text_sha256") != self.text_hash if isinstance(record, Mapping) else None

    def location(self, *keys: str | int) -> str:
        """Return `path:line` of the field at `keys`, or of the nearest field around it."""
        around = (keys[:length] for length in range(len(keys), 0, -1))
        return f"{self.path}:{next((self.lines[field] for field in around if field in self.lines), 1)}"

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
    """Read a Markdown file; raises FileError, and InputError for front matter that is no YAML mapping."""
    return parse_document(read_input(path), path)


def parse_document(data: bytes, path: Path) -> Document:
    """Read a Markdown text as `read_document` does a file; `path` names it in messages."""
    if len(data) > MOST_BYTES:
        raise FileError(f"{path}: is larger than 1 MB: that is no synopsis")
    text = decode(data, str(path))
    match = _FRONT_MATTER.match(text)
    if text.startswith("---\n") and not match:
        raise InputError(f"{path}:1: the front matter is never closed: end it with a line of three hyphens")
    meta, lines = read_yaml(match[1], path, first_line=2) if match else ({}, {})
    body = text[match.end() :] if match else text
    first_line = text.count("\n", 0, len(text) - len(body.lstrip())) + 1
    return Document(path, meta, body.strip(), lines, first_line)


def read_yaml(text: str, path: Path, first_line: int = 1) -> tuple[dict[str, Any], dict[_Keys, int]]:
    """Parse a YAML mapping; return its data, and the line of each field; raises InputError."""
    nodes = compose_yaml(text, path, first_line)
    if len(nodes) != 1 or not isinstance(nodes[0], yaml.MappingNode):
        raise InputError(f"{path}:{first_line}: no fields found: write them as 'name: value'")
    lines: dict[_Keys, int] = {}
    try:
        return _value(nodes[0], lines, first_line), lines
    except yaml.MarkedYAMLError as error:
        raise _yaml_error(error, path, first_line) from error


def compose_yaml(text: str, path: Path, first_line: int = 1) -> list[yaml.Node]:
    """Return the documents of a YAML text as nodes; InputError for aliases, tags and nesting, before they harm."""
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(text, Loader=YAML_LOADER)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            problem = "" if count < _MOST_EVENTS else "has too many values: divide the file"
            if depth > MOST_LEVELS:
                problem = f"is nested more than {MOST_LEVELS} levels deep: write it flatter"
            elif getattr(event, "anchor", None) is not None:
                problem = "is an anchor or an alias (& or *): write the value itself, or put it in quotes"
            elif getattr(event, "tag", None) is not None:
                problem = "has a tag (!): leave it out, or put the value in quotes"
            if problem:
                mark: Any = event.start_mark
                raise _UnsupportedError(problem=problem, problem_mark=mark)
        return list(yaml.compose_all(text, Loader=YAML_LOADER))
    except yaml.YAMLError as error:
        raise _yaml_error(error, path, first_line) from error


class _UnsupportedError(yaml.MarkedYAMLError):
    """It is YAML, but of a kind that our files do not use."""


def _yaml_error(error: yaml.YAMLError, path: Path, first_line: int) -> InputError:
    mark: Any = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    if not isinstance(error, _UnsupportedError):
        hint = ": put values with a colon in quotes" if isinstance(error, yaml.MarkedYAMLError) else ""
        reason = f"not YAML: {reason}{hint}"
    return InputError(f"{path}:{first_line + (mark.line if mark else 0)}: {reason}")


def _value(node: yaml.Node, lines: dict[_Keys, int], first_line: int, keys: _Keys = ()) -> Any:
    """Return the data of a node, and add the lines of its fields to `lines`, as far as they are looked up."""
    if keys and len(keys) <= _DEEPEST + 1:
        lines.setdefault(keys, first_line + node.start_mark.line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, lines, first_line, (*keys, index)) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        data: dict[str, Any] = {}
        for key, value in node.value:
            name = _value(key, {}, 0)
            problem = "" if isinstance(name, str) else "a name is not a text: put it in quotes"
            problem = "'<<' is no name: write the values themselves" if key.tag == _MERGE else problem
            if problem or name in data:
                problem = problem or f"'{name[:_MOST_SHOWN]}' appears twice: keep one"
                raise _UnsupportedError(problem=problem, problem_mark=key.start_mark)
            if len(keys) <= _DEEPEST:
                lines[*keys, name] = first_line + key.start_mark.line
            data[name] = _value(value, lines, first_line, (*keys, name))
        return data
    try:
        return _scalar_value(node.tag.rpartition(":")[2], node.value)
    except ValueError as error:
        problem = f"'{node.value[:_MOST_SHOWN]}' cannot be used as a number or date: correct or quote it"
        raise _UnsupportedError(problem=problem, problem_mark=node.start_mark) from error


def _scalar_value(kind: str, text: str) -> Any:
    if kind in {"null", "bool"}:
        return text.lower() in {"yes", "true", "on"} if kind == "bool" else None
    if kind in {"int", "float"} and ":" not in text:  # 20:15 is a time, not 1215
        construct = getattr(_CONSTRUCTOR, f"construct_yaml_{kind}")
        number = construct(yaml.ScalarNode(kind, text)) if len(text) <= _MOST_DIGITS else math.inf
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    return date.fromisoformat(text) if kind == "timestamp" and len(text) == _DATE_LENGTH else text


def read_toml(path: Path, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Read a TOML file, at most 20 levels deep; raises FileError, and ValueError where it is not TOML."""
    text = read_text(path)
    if _LONG_NAME.search(text):
        raise ValueError(f"a name has more than {MOST_LEVELS} parts")
    try:
        data: dict[str, Any] = tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, ArithmeticError, RecursionError):
        raise ValueError("a number is too long, or it is nested too deeply") from None
    check_values(data)
    return data


def check_values(data: Any) -> Any:
    """Return data with 20 levels and numbers of 64 bits at most; raises ValueError for any other."""
    level, values = 0, [data]
    while values:
        if level > MOST_LEVELS:
            raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
        numbers = [value for value in values if isinstance(value, int | float | Decimal)]
        if any(abs(n) > _MOST_INT if isinstance(n, int) else not math.isfinite(n) for n in numbers):
            raise ValueError("a number is too long, or not finite")
        lists = [value.values() if isinstance(value, dict) else value for value in values]
        values = [inner for each in lists if isinstance(each, list | ValuesView) for inner in each]
        level += 1
    return data


Shape = TypeVar("Shape", bound=BaseModel)


def read_fields(path: Path, shape: type[Shape], wrong: type[InputError]) -> Shape:
    """Read a YAML file into a pydantic model; raises FileError, and `wrong` where it does not fit."""
    text = read_text(path)
    try:
        meta, lines = read_yaml(text, path)
        document = Document(path, meta, "", lines)
        return shape.model_validate(meta)
    except ValidationError as error:
        raise wrong(document.explain(error)) from error
    except InputError as error:
        raise wrong(str(error)) from error


def format_document(meta: Mapping[str, Any], text: str) -> str:
    """Return the content of the file: front matter in the order of `meta`, if any, the text, and a line end."""
    if not meta:
        return f"{text.strip()}\n"
    return f"---\n{format_yaml(meta)}---\n\n{text.strip()}\n"


# Without aliases, which `compose_yaml` refuses.
_Dumper: Any = type("_", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {"ignore_aliases": lambda *_: True})

# What cannot be read as anything but text: it begins with a letter and has none of YAML's marks.
_PLAIN = re.compile(r"[A-Za-zÀ-ɏ](?:[0-9A-Za-zÀ-ɏ_ ,.()/;!?“„–’'-]*[0-9A-Za-zÀ-ɏ_,.()/;!?“„–’'-])?")
_WORDS = frozenset("true false null yes no on off y n".split())  # not read as text, in any case
_LONGEST_KEY = 100  # characters; PyYAML marks longer ones
_DECIMAL = re.compile(r"-?\d+\.\d+")


def format_yaml(data: Mapping[str, Any]) -> str:
    """Return `data` as PyYAML writes it, with umlauts unescaped and long lines unbroken, in a fifth of its time."""
    try:
        return "".join(_block_lines(data, "")) or "{}\n"
    except TypeError:  # of a value that PyYAML must write, or that cannot be hashed
        return _dumped(dict(data))


def _block_lines(data: Mapping[str, Any] | list[Any], indent: str) -> list[str]:
    lines: list[str] = []
    is_list = isinstance(data, list)
    for key, value in enumerate(data) if isinstance(data, list) else data.items():
        if not is_list and not (isinstance(key, str) and key.isascii() and 0 < len(key) <= _LONGEST_KEY):
            raise TypeError(key)
        head = "-" if is_list else f"{_scalar(key)}:"
        if type(value) not in {dict, list}:
            lines.append(f"{indent}{head} {_scalar(value)}\n")
        elif not value:
            lines.append(f"{indent}{head} {'[]' if isinstance(value, list) else '{}'}\n")
        else:  # a list is indented like its key, anything else two columns more
            inner = _block_lines(value, indent if type(value) is list and not is_list else indent + "  ")
            first = [f"{indent}- {inner.pop(0).lstrip(' ')}"] if is_list else [f"{indent}{head}\n"]
            lines += first + inner
    return lines


@lru_cache(maxsize=2_000, typed=True)
def _scalar(value: str | float | None) -> str:
    """Return one line of a value as PyYAML writes it, a text quoted if it must be."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and "  " not in value and value.lower() not in _WORDS:
            return value
        if value.isprintable():
            return _dumped(value).removesuffix("...\n").removesuffix("\n")
    elif type(value) in {type(None), bool, int} or (type(value) is float and _DECIMAL.fullmatch(repr(value))):
        return json.dumps(value)
    raise TypeError(value)


def _dumped(data: Any) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000))
