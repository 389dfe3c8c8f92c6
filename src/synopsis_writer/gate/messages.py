"""Messages of findings, reports and progress, in English and in German; the texts are in `gate/data`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from string import Formatter
from typing import Any, Literal

from synopsis_writer.gate.lexicon import word_lists

Language = Literal["de", "en"]
_LONGEST_QUOTE = 200


@dataclass(frozen=True)
class Wording:
    """What `gate/data/messages.txt` has under a key, with the values of its placeholders."""

    key: str
    values: Mapping[str, object]

    def text(self, language: Language = "en") -> str:
        """Return it in a language."""
        lines = word_lists("messages")[self.key]
        return _Formatter(language).vformat(lines[language == "de"], (), self.values)


def say(key: str, **values: object) -> Wording:
    """Return a wording; a list of words is quoted, a list of wordings joined, numbers are the language's."""
    return Wording(key, values)


class _Formatter(Formatter):
    def __init__(self, language: Language) -> None:
        self._language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        match value:
            case str():
                return value
            case Wording():
                return value.text(self._language)
            case [Wording(), *_]:
                return format_spec.join(each.text(self._language) for each in value)
            case list():
                return quoted(value, self._language)
        text = format(value, format_spec)
        return text.replace(".", ",").replace("%", " %") if self._language == "de" else text


def quoted(words: Sequence[str], language: Language = "en", most: int = 5) -> str:
    """Return `„a“, „b“`: distinct, in order, at most `most` of them."""
    distinct = [f"„{shortened(word, _LONGEST_QUOTE)}“" for word in dict.fromkeys(words)]
    rest = len(distinct) - most
    more = "" if rest <= 0 else f" und {rest} weitere" if language == "de" else f" and {rest} more"
    return ", ".join(distinct[:most]) + more


def shortened(text: str, most: int = 60) -> str:
    """Return `text`, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def status_line(record: logging.LogRecord, language: Language) -> str:
    """Return a log record's message, in German as far as `gate/data/status_de.txt` has it."""
    known = word_lists("status_de").get(str(record.msg)) if language == "de" else None
    return known[0] % record.args if known and record.args else record.getMessage()


@cache
def check_names() -> Mapping[str, tuple[str, str]]:
    """Return what each check is called in German and in English, by its name in the code."""
    rows = (line.split(" | ") for line in word_lists("checks")["names"])
    return {name: (german, english) for name, english, german in rows}
