"""Reads a model's answer: drops thoughts, and finds, reads and repairs JSON objects.

Only what can be read in one way is repaired: json-repair guesses, and json5 and dirtyjson do not know „…".
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synopsis_writer.characters import join_surrogates

_MARKS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_CLOSE, _OPEN = ("|".join(_MARKS[kind]) for kind in ("close", "open"))
_MARK = re.compile(
    re.sub(r"\{(name|left|right)\}", lambda part: _MARKS[part[1]], f"(?P<close>{_CLOSE})|{_OPEN}"), re.IGNORECASE
)
_MOST_DIGITS = 300  # of a whole number; Python reads no 4,300
_MOST_FAILURES = 100  # an answer full of braces must not cost quadratic time
_MOST_VALUES = 100_000  # of JSON: each may take two kilobytes until it is refused
_MOST_REPAIRED = 10_000  # values of what is nearly JSON
_DEEPEST = 20
_NEAR = 20  # letters shown on both sides of the point where the JSON breaks
# An object begins so; `{kein JSON}` does not.
_START = re.compile(r"\{(?=[\s\ufeff\u200b]*(?:[\"'“„«»`,#}/]|[^\W\d]\w*\s*[:=]|\Z))")
_BORDER = re.compile(r"[{}]|\n(?=```|\{)")
_CUT = re.compile(r"[\"'“„]?[\w .+-]*[\"'”“]?[\s`]*")
_SKIP = r"(?:[\s\ufeff\u200b]|(?://|#)[^\n]*+|/\*.*?\*/)*+"
_BLANK = re.compile(_SKIP, re.DOTALL)
_QUOTED_KEY = r"[\"'“„]([^\"'“”„\n{}\[\]]{1,60})[\"'”“]"
_KEY = re.compile(rf"(?:{_QUOTED_KEY}|([^\W\d]\w*)){_SKIP}:", re.DOTALL)
_SCALAR = re.compile(
    r"(?:(true|false|null|none|undefined)|-?(?:0|[1-9]\d{0,29})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?)(?![\w.])",
    re.IGNORECASE,
)
_NAMED = {"true": True, "false": False}
_CLOSING = {'"': '"', "'": "'", "“": "”“", "„": "“”"}
_TOKEN = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)|[\"'„“”]", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# What follows the end of a string, and hardly a quote inside one: a bracket, the next key, the next item.
_AFTER_VALUE = re.compile(
    rf"{_SKIP}(?:[}}\]]|\Z|(?:,{_SKIP})*+(?:[}}]|\Z|{_QUOTED_KEY}{_SKIP}(?::|\Z)|[\"'“„][\w .-]*\Z))", re.DOTALL
)
_AFTER_BARE = re.compile(rf"{_SKIP}(?:[}}\]]|\Z|,{_SKIP}(?:\}}|\w*{_SKIP}(?::|\Z)))", re.DOTALL)
_AFTER_ITEM = {
    quote: re.compile(rf"{_SKIP}(?:[}}\]]|\Z|,{_SKIP}(?:[{{\[\]{quote}]|\Z))|[ \t]*\n\s*{quote}", re.DOTALL)
    for quote in _CLOSING
}
# What follows a quote that should have ended its string, had something else not been forgotten, or had it
# not been one of several: JavaScript's `"" + "…"`, Python's `"""`.
_ELSEWHERE = re.compile(r"\s*:|(?:\s*[,+]\s*|\s+)[\"']|\"(?!\s*[,}\]]|\s*\Z)")
_HINT = ': write a straight quote inside a text as \\"'


def without_thoughts(text: str, *, is_cut: bool) -> str:
    """Return an answer without its model's thoughts; their marks do not count inside a JSON object."""
    outside, start, is_open = "", 0, False
    end = failures = 0  # marks and objects are read up to `end`
    if has_too_many_values(text):
        return text
    for mark in _MARK.finditer(text):
        while failures < _MOST_FAILURES and (begun := text.find("{", end, mark.start())) >= 0:
            try:
                _, end = _read(text, begun)
            except json.JSONDecodeError:
                end = begun + 1
                failures += 1
        if mark.start() < end:
            continue
        end, is_close = mark.end(), mark["close"] is not None
        if not is_open:  # a closing mark ends thoughts without their opening one
            outside = "" if is_close else outside + text[start : mark.start()]
        start = end if is_close or not is_open else start
        is_open = not is_close
    rest = text[start:]
    if is_open:  # thoughts that do not end are the answer where there is nothing else, unless it is cut
        return outside if is_cut or "{" in outside else rest
    if "{" in rest or not start:
        return rest
    if "{" in outside:
        return outside
    return rest if rest.strip() or is_cut or "{" not in text else text


def has_too_many_values(data: bytes | bytearray | str) -> bool:
    """Whether JSON may hold so many values that a few megabytes of it take gigabytes of memory."""
    counts = map(data.count, ",[{") if isinstance(data, str) else map(data.count, (b",", b"[", b"{"))
    return sum(counts) > _MOST_VALUES


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_DECODER = json.JSONDecoder(strict=False, parse_int=_whole_number)


def read_json(data: bytes | bytearray | str) -> Any:
    """Read JSON from outside; raises ValueError where it is broken, nested too deeply, or too much."""
    if has_too_many_values(data):
        raise ValueError(f"has more than {_MOST_VALUES:,} values")
    try:
        try:
            return json.loads(data, parse_int=_whole_number)
        except UnicodeDecodeError:  # Windows' letters; others are replaced in what is UTF-8 but for them
            if isinstance(data, str):
                raise
            text = bytes(data).decode("utf-8", "replace")
            if {char for char in text if not char.isascii()} == {"\ufffd"}:
                text = bytes(data).decode("cp1252", "replace")
            return json.loads(text, parse_int=_whole_number)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


@dataclass(frozen=True)
class JsonObject:
    """A JSON object in an answer."""

    source: str  # its text; of a broken one, all that may belong to it
    data: dict[str, Any] | None  # what it holds; None where it is broken
    problem: str = ""  # where it breaks, in one line; empty otherwise


def find_objects(answer: str) -> list[JsonObject]:
    """Return the outermost JSON objects of an answer, in order; none that is inside a broken one."""
    text = answer.strip()
    text = f'"{text}"' if re.match(r"\{(\s|\\[nt])*\\\"", text) else text
    try:  # it may have been encoded twice
        text = str(_DECODER.raw_decode(text)[0]) if text.startswith('"') else answer
    except ValueError:
        text = answer
    objects: list[JsonObject] = []
    end = failures = 0
    if has_too_many_values(text):
        return [JsonObject("", None, f"the JSON has more than {_MOST_VALUES:,} values")]
    while failures < _MOST_FAILURES and (begun := _START.search(text, end)):
        start = begun.start()
        try:
            data, end = _read(text, start)
            objects.append(JsonObject(text[start:end], data))
        except json.JSONDecodeError as error:
            failures += 1
            end, problem = _end_of_broken(text, start), "the JSON is cut off"
            if not _CUT.fullmatch(text, error.pos):
                near = " ".join(text[max(0, error.pos - _NEAR) : error.pos + _NEAR].split())
                index = f"line {error.lineno}, column {error.colno}"
                problem = f"the JSON breaks at {index}, near …{near}…{error.msg}"
            objects.append(JsonObject(text[start:end], None, problem))
    return objects


def is_closed(answer: str) -> bool:
    """Whether the last JSON object of an answer is whole."""
    objects = [each for each in find_objects(answer) if each.data != {}]
    return bool(objects) and objects[-1].data is not None


def _end_of_broken(text: str, start: int) -> int:
    """Return where its braces are closed, a code fence follows, or an object begins a line."""
    depth = 0
    for border in _BORDER.finditer(text, start):
        if border[0] == "\n":
            return border.start()
        depth += 1 if border[0] == "{" else -1
        if not depth:
            return border.end()
    return len(text)


def _read(text: str, start: int) -> tuple[dict[str, Any], int]:
    try:
        data, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        reader = _Reader(text, start)
        data, end = reader.read_object(0), reader.at
    return data, end


class _Reader:
    """Reads what is nearly JSON: commas, quotes of any kind or none, line ends, comments, `True`, odd blanks."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at, self.left = text, at, _MOST_REPAIRED

    def _broken(self, at: int, hint: str = "") -> json.JSONDecodeError:
        return json.JSONDecodeError(hint, self.text, at)

    def read_object(self, depth: int) -> dict[str, Any]:
        """Read the object that begins here; raises JSONDecodeError."""
        self.at += 1
        data = {}
        while not self._take("}", after=","):
            if (key := _KEY.match(self.text, self.at)) is None:
                raise self._broken(self.at)
            self.at = key.end()
            data[key[1] or key[2]] = self._value(depth, _AFTER_VALUE if key[1] else _AFTER_BARE)
        return data

    def _value(self, depth: int, after: re.Pattern[str] | None = None) -> Any:
        """Read a value; `after` is what may follow a string, None in an array."""
        self._take("")
        self.left -= 1
        if depth > _DEEPEST or self.left < 0:
            raise self._broken(self.at)
        char = self.text[self.at : self.at + 1]
        if char == "{" and depth < _DEEPEST:
            return self.read_object(depth + 1)
        if char == "[":
            self.at += 1
            items = []
            while not self._take("]", after=","):
                items.append(self._value(depth + 1))
            return items
        if char in _CLOSING:
            return self._string(char, after)
        if (scalar := _SCALAR.match(self.text, self.at)) is None:
            raise self._broken(self.at)
        self.at = scalar.end()
        return _NAMED.get(scalar[1].lower()) if scalar[1] else json.loads(scalar[0])

    def _take(self, char: str, after: str = "") -> bool:
        while after and self._take(after):
            pass
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        is_there = self.text.startswith(char, self.at)
        self.at += len(char) * is_there
        return is_there

    def _string(self, quote: str, after: re.Pattern[str] | None) -> str:
        ends = after or _AFTER_ITEM[quote]
        parts, start = [], self.at + 1
        inner: list[int] = []  # straight quotes inside the text, which come in pairs
        is_quoting = False  # after „
        for token in _TOKEN.finditer(self.text, start):
            char = token[0]
            parts.append(self.text[start : token.start()])
            start = token.end()
            if char.startswith("\\"):
                if not token[1] and char[1].isalnum() and char[1] not in _ESCAPED:
                    raise self._broken(token.start())
                parts.append(chr(int(token[1], 16)) if token[1] else _ESCAPED.get(char[1], char[1]))
                continue
            if char in _CLOSING[quote] and ends.match(self.text, start):
                if quote == '"' and len(inner) % 2:
                    raise self._broken(inner[0], _HINT)
                self.at = start
                return join_surrogates("".join(parts))
            parts.append(char)
            if char == "„":
                is_quoting = True
            elif char in "“”" or (char == '"' and is_quoting):
                is_quoting = False
            elif char == quote:
                is_elsewhere = _ELSEWHERE.match(self.text, start)
                if is_elsewhere or after is None:
                    raise self._broken(token.start(), "" if is_elsewhere else _HINT)
                inner.append(token.start())
        raise self._broken(inner[0], _HINT) if len(inner) % 2 else self._broken(len(self.text))


def parts_so_far(answer: str) -> tuple[str, list[str]]:
    """Return title and paragraphs that stand in an unfinished JSON answer, as far as it has come."""
    from pydantic_core import from_json

    objects = find_objects(without_thoughts(answer, is_cut=True))
    try:
        data = from_json(objects[-1].source, allow_partial="trailing-strings") if objects else {}
    except ValueError:
        return "", []
    title, parts = data.get("title"), data.get("paragraphs")
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    stripped = [text.strip() if isinstance(text, str) else "" for text in (title, *texts)]
    return stripped[0], [text for text in stripped[1:] if text]
