"""Fixes: faults in a text that code can correct without judgement; no word changes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from synopsis_writer.formats.reading import title_and_text
from synopsis_writer.gate.lexicon import pattern
from synopsis_writer.gate.text import Span


class Fix(NamedTuple):
    """A fault that code can correct: `text` replaces `span`; `kind` names the fault."""

    span: Span
    text: str
    kind: str = ""


_Edit = tuple[int, int, str]  # start, end, and what goes there

QUOTATION_MARKS, INVISIBLE, SHARP_S = "quotation marks", "invisible characters", "ss for ß"
_MOST_ROUNDS = 5  # one rule can make work for another, seldom twice


def fix(text: str, marks: str = "„“", given: Iterable[str] = ()) -> tuple[str, tuple[Fix, ...]]:
    """Return the fixed text, and the fixes, with spans in the old one; `given` words stay as they are."""
    edited = _Edited(text)
    names = [word.strip(_AROUND_WORDS) for name in given for word in name.split() if "'" in word]
    for _ in range(_MOST_ROUNDS):
        before = edited.text
        for kind, expression, new in _RULES:
            edited.apply(kind, [(*match.span(), new) for match in expression.finditer(edited.text)])
        edited.apply("decomposed letters", _decomposed(edited.text))
        edited.apply("line breaks", _line_breaks(edited.text))
        edited.apply("apostrophes", _apostrophes(edited.text, names))
        edited.apply(QUOTATION_MARKS, _quotation_marks(edited.text, marks))
        if edited.text == before:
            break
    return edited.text, edited.fixes()


def composed_spans(text: str, spans: Collection[Span]) -> list[Span]:
    """Return where spans of a text are in its composed form (NFC)."""
    if unicodedata.is_normalized("NFC", text):
        return list(spans)
    ends = [0, *sorted({index for span in spans for index in span})]
    lengths = (len(unicodedata.normalize("NFC", text[start:end])) for start, end in pairwise(ends))
    places = dict(zip(ends, accumulate(lengths, initial=0), strict=True))
    return [Span(places[start], places[end]) for start, end in spans]


def apply_fixes(text: str, fixes: Iterable[Fix]) -> str:
    """Return `text` with `fixes`, which do not overlap, made."""
    for each in sorted(fixes, reverse=True):
        text = text[: each.span.start] + each.text + text[each.span.end :]
    return text


def counted(fixes: Iterable[Fix]) -> dict[str, int]:
    """Return how many fixes of each kind there are, in the order of their first ones."""
    return dict(Counter(each.kind for each in fixes))


def listed(kinds: Mapping[str, int]) -> str:
    """Return `quotation marks (4), spaces (1)`."""
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.items())


class _Edited:
    """A text that is edited, and where each of its characters was before; -1 for new ones."""

    def __init__(self, text: str) -> None:
        self._original = self.text = text
        self._origins = list(range(len(text)))
        self._kinds: dict[int, str] = {}  # by where in the original they begin

    def apply(self, kind: str, edits: Iterable[_Edit]) -> None:
        """Make edits, which are in order and do not overlap."""
        pieces: list[str] = []
        origins: list[int] = []
        done = 0
        for start, end, new in edits:
            first, last, text = start, end, new
            while first < last and text and self.text[first] == text[0]:  # leave out what stays at the ends
                first, text = first + 1, text[1:]
            while first < last and text and self.text[last - 1] == text[-1]:
                last, text = last - 1, text[:-1]
            if first == last and not text:
                continue
            before = first
            while before and self._origins[before - 1] < 0:
                before -= 1
            self._kinds.setdefault(self._origins[before - 1] + 1 if before else 0, kind)
            pieces += (self.text[done:first], text)
            origins += (*self._origins[done:first], *[-1] * len(text))
            done = last
        if pieces:
            self.text = "".join((*pieces, self.text[done:]))
            self._origins = [*origins, *self._origins[done:]]

    def fixes(self) -> tuple[Fix, ...]:
        """Return what differs from the original, with spans in it."""
        if self.text == self._original:
            return ()
        found: list[Fix] = []
        before, old = -1, -1  # the last character that stayed: its index now, and then
        for index, origin in enumerate([*self._origins, len(self._original)]):
            if origin < 0:
                continue
            new = self.text[before + 1 : index]
            if self._original[old + 1 : origin] != new:
                found.append(Fix(Span(old + 1, origin), new, self._kinds[old + 1]))
            before, old = index, origin
        return tuple(found)


_NARROW = "\u2000-\u200a\u202f\u205f"
_RULES = tuple(
    (kind, re.compile(expression, re.MULTILINE), new)
    for kind, expression, new in (
        (INVISIBLE, pattern("invisible characters").pattern, ""),
        ("line breaks", "[\x0b\x85\u2028\u2029]", "\n"),
        ("spaces", rf"[{_NARROW}](?=[!?;:,.…»“”])|^[ \t{_NARROW}]+(?=\S)|[ \t\u00a0{_NARROW}]+$", ""),
        ("spaces", rf"[ \t\u00a0{_NARROW}]{{2,}}|[\t{_NARROW}]", " "),
        ("dots", r"\.{3,}|\. \. \.(?! ?\.)", "…"),
        ("dashes", r"(?<=[^\s|-]) -{1,3}(?= [^\s|-]|,)", " –"),
    )
)


def _decomposed(text: str) -> Iterator[_Edit]:
    if unicodedata.is_normalized("NFC", text):
        return
    for match in re.finditer(r"[\x00-\x7f]?[^\x00-\x7f]+", text):  # an ASCII letter joins none before it
        yield *match.span(), unicodedata.normalize("NFC", match[0])


_LONG_LINE = 40  # characters, from which on a line that begins with a capital goes on as well


def _line_breaks(text: str) -> Iterator[_Edit]:
    """Yield the line breaks inside a sentence; one below a title, or in a list, is none."""
    if "\n" not in text:  # usually: a paragraph of an answer
        return
    title = title_and_text(text)[0]
    for match in pattern("line break").finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        following = text[match.end() :].partition("\n")[0]
        is_title = title and title == line.strip("#*_ \t")
        is_prose = not any(map(pattern("line of no prose").match, (line, following)))
        goes_on = text[match.end()].islower() or len(line) >= _LONG_LINE
        if is_prose and goes_on and not is_title:
            yield *match.span(), " "


_AROUND_WORDS = '.,;:!?…„“”"»«()'


def _apostrophes(text: str, given: Sequence[str]) -> Iterator[_Edit]:
    if not pattern("apostrophe").search(text):
        return
    kinds = ("inner apostrophe", "leading apostrophe", "trailing apostrophe")
    inner, leading, trailing = ([match.span() for match in pattern(kind).finditer(text)] for kind in kinds)
    quoted = [Span(*match.span()) for match in pattern("single quotation").finditer(text)]
    trailing = [edge for edge in trailing if not any(span.contains(edge[0]) for span in quoted)]
    for start, end in sorted(inner + leading + trailing):
        begins = max(text.rfind(blank, 0, start) for blank in " \n") + 1
        word = text[begins:].split(maxsplit=1)[0].strip(_AROUND_WORDS) if given else ""
        if not word.startswith(tuple(given)):
            yield start, end, "’"


_SINGLE = {"„“": "‚‘", "»«": "›‹", "«»": "‹›", "“”": "‘’"}
_OPENS, _CLOSES = " \n\t\u00a0([–—/-‚›‹‘", " \n.,;:!?)"
_DEEPEST = 2  # quotations: one within another


def _quotation_marks(text: str, marks: str) -> Iterator[_Edit]:
    """Yield the quotation marks of each paragraph in which they pair up, at most two deep."""
    is_paired = marks == "„“" and text.count("„") == text.count("“")
    if is_paired and not pattern("other quotation mark").search(text):
        return  # quickly, and usually so
    start = 0
    for paragraph in re.split(r"(\n[ \t]*\n)", text):
        done = 0  # of two that overlap only the first is made
        for first, last, new in [] if pattern("code").search(paragraph) else _pairs(paragraph, marks):
            if first >= done:
                yield start + first, start + last, new
                done = last
        start += len(paragraph)


def _pairs(text: str, marks: str) -> list[_Edit]:
    single = _SINGLE.get(marks)
    edits: list[_Edit] = []
    outer: list[Span] = []
    opened: list[int] = []  # where the quotations begin that are open
    for match in pattern("double quotation mark").finditer(text):
        opens, inside = _role(text, match, is_open=bool(opened))
        if opens:
            opened.append(match.start())
        pair = (marks, single)[len(opened) - 1] if 0 < len(opened) <= _DEEPEST else None
        if pair is None:
            return []
        start, end = (match.start(), match.end() + inside) if opens else (match.start() - inside, match.end())
        edits.append((start, end, pair[0 if opens else 1]))
        if not opens and not (begun := opened.pop(), opened)[1]:
            outer.append(Span(begun, end))
    if opened:
        return []
    for name, pair, is_inner in (("inner quotation", single, True), ("single quotation", marks, False)):
        for start, end in (match.span() for match in pattern(name).finditer(text) if pair):
            if any(span.contains(start) for span in outer) == is_inner and pair:
                edits += [(start, start + 1, pair[0]), (end - 1, end, pair[1])]
    return sorted(edits)


def _role(text: str, mark: re.Match[str], *, is_open: bool) -> tuple[bool, int]:
    """Return whether a mark opens a quotation, and how many blanks beside it belong to it, as in « so »."""
    before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
    is_opening = mark[0] in {"„", ",,", "``"}
    opens = is_opening or ((not before or before in _OPENS) and after not in ("", *_CLOSES))
    closes = not is_opening and before.strip() != "" and not after.isalnum()
    if opens != closes:
        return opens, 0
    is_loose = not opens and (before if is_open else after) == " "
    return not is_open, int(is_loose)
