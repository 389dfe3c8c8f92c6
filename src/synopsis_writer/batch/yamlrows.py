"""A YAML list of briefs, read event by event, so that a long one is never in memory whole."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from synopsis_writer.batch.columns import TableRow, row_of
from synopsis_writer.errors import BriefError, FileError

# The loader in C is ten times quicker; a build of PyYAML without it has the other.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOTHING = {"", "~", "null", "Null", "NULL"}  # what YAML takes for nothing where it stands without quotes
_LIST_MEND = "write a list of briefs, each beginning with '- show: …'"


def read_yaml_rows(path: Path, file: BinaryIO) -> Iterator[TableRow]:
    """Yield the mappings of a list. All values are text, as they stand: `007`, `no` and dates stay so.

    Raises, while it is read:
        BriefError: it is not YAML, or something else than a list of flat mappings; names the line.
        FileError: it is not UTF-8.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    try:
        yield from _Rows(path, yaml.parse(text, Loader=_Loader))
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8: save it as UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BriefError(
            f"{path}{line}: not YAML: {error.problem}: put values with a colon in quotes"
        ) from error
    except yaml.YAMLError as error:
        raise FileError(
            f"{path}: not YAML: {str(error).splitlines()[0]}: save it as plain UTF-8 text"
        ) from error
    finally:
        text.detach()  # who opened the file closes it


class _Rows:
    """The rows in a stream of YAML events, and the values that have a name (`&cast`) so far."""

    def __init__(self, path: Path, events: Iterator[yaml.Event]) -> None:
        self._path, self._events = path, events
        self._named: dict[str, Any] = {}

    def __iter__(self) -> Iterator[TableRow]:
        for event in self._events:
            if isinstance(event, yaml.SequenceStartEvent):
                yield from self._list()
            elif isinstance(event, yaml.NodeEvent):
                raise self._wrong(event, "is no list", _LIST_MEND)

    def _list(self) -> Iterator[TableRow]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            if not isinstance(event, yaml.MappingStartEvent):
                raise self._wrong(event, "is no brief", _LIST_MEND)
            yield row_of(self._where(event), self._pairs())

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._wrong(event, "is no column's name", "write 'name: value'")
            yield event.value, self._value(event.value)

    def _value(self, column: str) -> Any:
        event = next(self._events)
        if not isinstance(event, yaml.SequenceStartEvent):
            return self._text(event, column)
        texts = []
        while not isinstance(part := next(self._events), yaml.SequenceEndEvent):
            texts.append(self._text(part, column))
        return self._name(event, texts)

    def _text(self, event: yaml.Event, column: str) -> Any:
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._named:
            return self._named[event.anchor]
        if not isinstance(event, yaml.ScalarEvent):
            raise self._wrong(event, f"'{column}' holds no text", "write a text, or a list of texts")
        is_nothing = event.implicit[0] and event.value in _NOTHING
        return self._name(event, None if is_nothing else event.value)

    def _name(self, event: yaml.NodeEvent, value: Any) -> Any:
        if event.anchor is not None:
            self._named[event.anchor] = value
        return value

    def _where(self, event: yaml.Event) -> str:
        return f"{self._path}:{event.start_mark.line + 1}" if event.start_mark else str(self._path)

    def _wrong(self, event: yaml.Event, fault: str, mend: str) -> BriefError:
        return BriefError(f"{self._where(event)}: {fault}: {mend}")
