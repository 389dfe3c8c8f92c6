"""What findings say, in the reader's language; what a repair says, always in German."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from synopsis_writer.gate.finding import Finding, shortened
from synopsis_writer.gate.text import Text

Language = Literal["de", "en"]
_SENTENCES, _SENTENCE = 3, 160  # quoted in a repair; characters of each


class _Entry(NamedTuple):
    pattern: re.Pattern[str]  # of what a check says, in English
    english: str
    german: str


def worded(finding: Finding, text: Text | None, language: Language) -> Finding:
    """Return a finding with its message, hint and limit in a language, and with its German repair.

    The repair quotes the sentences that the finding marks.
    """
    limit = in_language(finding.limit, language)
    if finding.passed:
        return finding if language == "en" else replace(finding, limit=limit, message="Eingehalten.")
    entry, groups = _find(finding.message)
    message, _, hint = entry.english.format(**groups).partition(" | ") if entry else (finding.message, "", "")
    own, _, own_hint = _in_german(finding.message).partition(" | ")
    quoted = [sentence for sentence in _marked(finding, text) if sentence not in own]
    sentences = f" Im Satz: {' '.join(f'„{sentence}“' for sentence in quoted)}" if quoted else ""
    repair = f"{own}{sentences} {own_hint}".strip()
    if language == "de":
        return replace(finding, message=own, hint=own_hint, limit=limit, repair=repair)
    return replace(finding, message=message, hint=hint.removeprefix("+"), repair=repair)


def in_language(english: str, language: Language) -> str:
    """Return a part of a report in a language; as it is where the table lacks it."""
    return _in_german(english) if language == "de" else english


def _marked(finding: Finding, text: Text | None) -> list[str]:
    """Return the first sentences that a finding marks part of."""
    sentences = text.sentences if text else ()
    marked = [
        shortened(" ".join(each.text.split()), _SENTENCE)
        for each in sentences
        if any(each.span.start < span.end and span.start < each.span.end for span in finding.spans)
    ]
    return list(dict.fromkeys(marked))[:_SENTENCES]


def _in_german(english: str) -> str:
    """Return what a check says in German, with " | " before what to do; as it is where the table lacks it."""
    more = re.fullmatch(r"(„.*“) and (\d+) more", english, re.DOTALL)
    if more or english.startswith("„"):
        return f"{more[1]} und {more[2]} weitere" if more else english
    entry, groups = _find(english)
    if entry is None:
        number = re.fullmatch(r"([\d.]*\d)(%?)", english)
        return f"{number[1].replace('.', ',')}{' %' if number[2] else ''}" if number else english
    return entry.german.format(**{name: _in_german(value) for name, value in groups.items()})


def _find(english: str) -> tuple[_Entry | None, dict[str, str]]:
    for entry in _entries():
        if match := entry.pattern.fullmatch(english):
            return entry, match.groupdict()
    return None, {}


@cache
def check_names() -> Mapping[str, tuple[str, str]]:
    """Return what each check is called in German and in English, by its name in the code."""
    source = files("synopsis_writer.gate").joinpath("data/checks.txt").read_text(encoding="utf-8")
    rows = (line.split(" | ") for line in source.splitlines() if line and not line.startswith("#"))
    return {name: (german, english) for name, english, german in rows}


@cache
def _entries() -> tuple[_Entry, ...]:
    source = files("synopsis_writer.gate").joinpath("data/messages_de.txt").read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if line and not line.startswith("#")]
    pairs = sorted(zip(lines[::2], lines[1::2], strict=True), key=lambda pair: -len(_literal(pair[0])))
    return tuple(_Entry(re.compile(_pattern(one), re.DOTALL), one, german) for one, german in pairs)


def _literal(english: str) -> str:
    return re.sub(r"\{\w+\}| \| \+.*", "", english)  # the more of it, the surer a match


def _pattern(english: str) -> str:
    """Return the pattern of a template: with a colon before what to do, or with that only in a record."""
    said, _, added = english.partition(" | +")
    said = said.replace(" | ", " " if said.startswith("The tense switches") else ": ")
    pattern = re.escape(said) + (f"(?: {re.escape(added)})?" if added else "")
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", pattern)
