"""Variety: a text is held against the accepted ones of its batch, which are indexed as they come."""

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from synopsis_writer.batch.faults import reported
from synopsis_writer.batch.marks import MarkIndex, Marks, run_spans, runs_of, stretches
from synopsis_writer.batch.traits import (
    Traits,
    cast_names,
    first_sentence,
    is_asked_for,
    own_words,
    traits_of,
)
from synopsis_writer.brief import Brief
from synopsis_writer.database import transaction
from synopsis_writer.shows import Show
from synopsis_writer.style.copies import RUN, name_words
from synopsis_writer.style.finding import Finding, failed, passed, quoted
from synopsis_writer.style.names import Name, parse_name
from synopsis_writer.style.originality import COPIED_RUN
from synopsis_writer.style.text import Span
from synopsis_writer.synopsis import Synopsis

CHECKS = ("variety_copy", "variety_opening", "variety_title", "variety_names")
# Share of the runs of six words: two of 82 independent texts share 0.25 % at most, and that is a show's name;
# texts of which 20 % of the words were changed at random share 18 % or more.
SHARED = 0.05
SEASON = 50  # rows of a show in which a last name alone does not come back; a season has about 30
_READ_CLOSELY = 5  # texts that share the most marks
_LOADED = 10_000  # texts read at a time

MIGRATION = """
    CREATE TABLE variety_texts (
        number INTEGER PRIMARY KEY, row TEXT NOT NULL UNIQUE, show TEXT NOT NULL, title TEXT NOT NULL,
        opening TEXT NOT NULL, people TEXT NOT NULL, marks BLOB NOT NULL
    );
    CREATE INDEX variety_by_show ON variety_texts (show);
    CREATE INDEX variety_by_title ON variety_texts (title);
    CREATE INDEX variety_by_opening ON variety_texts (opening);
    CREATE TABLE variety_names (
        name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, number)
    ) WITHOUT ROWID
"""


class Variety:
    """The accepted texts of a batch, by what no other row may have.

    The tables hold all but the texts themselves; the marks are in memory, too, about 450 bytes a text.

    Args:
        database: the batch's own, with the tables of `MIGRATION`; what it holds is read at once.
        read: gives the text of a row that was added.
        disabled: checks that are left out.

    Raises:
        FileError: the database cannot be read or written; so do all methods.
    """

    def __init__(
        self, database: sqlite3.Connection, read: Callable[[str], str], disabled: Collection[str] = ()
    ) -> None:
        self._database = database
        self._disabled = frozenset(disabled)
        self._read = read
        self._index = MarkIndex()
        with reported():
            cursor = database.execute("SELECT number, marks FROM variety_texts ORDER BY number")
            while rows := cursor.fetchmany(_LOADED):
                marks = [np.frombuffer(blob, dtype="<u4") for _, blob in rows]
                numbers = np.repeat([number for number, _ in rows], [len(some) for some in marks])
                self._index.add(np.concatenate(marks), numbers)

    def add(self, row: str, synopsis: Synopsis, show: Show) -> None:
        """Take an accepted row in, within the caller's transaction if there is one; a known row stays."""
        if self._rows("SELECT number FROM variety_texts WHERE row = ?", row):
            return
        traits = traits_of(synopsis, show)
        with reported(), self._whole():
            number = self._insert(row, show, traits)
        self._index.add(traits.marks, number)

    def load(self, rows: Iterable[tuple[str, Synopsis, Show]]) -> None:
        """Take in, as one, accepted rows that were made without variety."""
        with reported(), self._whole():
            for row, synopsis, show in rows:
                self.add(row, synopsis, show)

    def find(self, synopsis: Synopsis, show: Show, brief: Brief) -> tuple[Finding, ...]:
        """Hold a text against the accepted ones: one finding a check, in the order of `CHECKS`."""
        traits = traits_of(synopsis, show)
        checks: tuple[Callable[[], Finding], ...] = (
            lambda: self._copy(synopsis, show, traits),
            lambda: self._opening(synopsis, traits),
            lambda: self._title(synopsis, traits),
            lambda: self._names(synopsis, show, brief, traits),
        )
        named = zip(CHECKS, checks, strict=True)
        return tuple(check() for name, check in named if name not in self._disabled)

    def _whole(self) -> AbstractContextManager[None]:
        """Return a transaction, or nothing within one of the caller's."""
        return nullcontext() if self._database.in_transaction else transaction(self._database)

    def _insert(self, row: str, show: Show, traits: Traits) -> int:
        marks = traits.marks.astype("<u4").tobytes()
        values = (row, show.slug, traits.title, traits.opening, "\n".join(traits.people), marks)
        into = (
            "INSERT INTO variety_texts (row, show, title, opening, people, marks) VALUES (?, ?, ?, ?, ?, ?)"
        )
        number = self._database.execute(into, values).lastrowid or 0
        keys = {key for name in traits.guests for key in (name.last, " ".join(filter(None, name)))}
        self._database.executemany("INSERT INTO variety_names VALUES (?, ?)", [(key, number) for key in keys])
        return number

    def _copy(self, synopsis: Synopsis, show: Show, traits: Traits) -> Finding:
        limit = f"runs under {COPIED_RUN} words, at most {SHARED:.0%} shared"
        alone = passed("variety_copy", 0, limit, "No other row tells the same in the same words.")
        text, alike = synopsis.text, self._alike(traits.marks)
        if not alike:
            return alone
        people = [name for names in alike.values() for name in names]
        names = name_words((*traits.people, *people, *cast_names(show)))
        runs, *others = runs_of([text, *map(self._read, alike)], names)
        for row, other in zip(alike, others, strict=True):
            found = stretches(runs, other)
            share = sum(map(len, found)) / max(1, len(runs))
            if share <= SHARED and (not found or len(found[0]) + RUN - 1 < COPIED_RUN):
                continue
            spans = run_spans(text, found)
            longest = max(own_words(text[slice(*span)], show, names) for span in spans)
            if longest >= COPIED_RUN or share > SHARED:
                message = (
                    f"{longest} words in a row stand in row {row}, too; {share:.0%} of the text is shared: "
                    "tell it in words and events of its own."
                )
                return failed("variety_copy", longest, limit, message, spans)
        return alone

    def _alike(self, marks: Marks) -> dict[str, list[str]]:
        """Return the rows that share the most marks, and the people of each."""
        query = "SELECT row, people FROM variety_texts WHERE number = ?"
        numbers = self._index.sharing(marks).most_common(_READ_CLOSELY)
        # There is no such row after a transaction that was undone.
        return {row: people.split("\n") for number, _ in numbers for row, people in self._rows(query, number)}

    def _opening(self, synopsis: Synopsis, traits: Traits) -> Finding:
        limit = "no other row's opening"
        found = traits.opening and self._rows(_BY_OPENING, traits.opening)
        if not found:
            return passed("variety_opening", traits.opening, limit, "No other row begins like this.")
        message = f"The first sentence begins like that of row {found[0][0]}: open with another picture."
        return failed("variety_opening", traits.opening, limit, message, [first_sentence(synopsis)])

    def _title(self, synopsis: Synopsis, traits: Traits) -> Finding:
        limit = "no other row's title"
        found = traits.title and self._rows(_BY_TITLE, traits.title)
        if not found:
            return passed("variety_title", synopsis.title, limit, "No other row has this title.")
        message = f"Row {found[0][0]} has the title {quoted([synopsis.title])}, too: find one of its own."
        return failed("variety_title", synopsis.title, limit, message)

    def _names(self, synopsis: Synopsis, show: Show, brief: Brief, traits: Traits) -> Finding:
        limit = f"no other row's full names, no last names of the show's latest {SEASON} rows"
        if not show.cast:
            return passed("variety_names", 0, limit, "Nobody can tell guests from a cast that is not known.")
        since = self._rows(_SINCE, show.slug, SEASON - 1)
        first = since[0][0] if since else 0
        taken: dict[Name, str] = {}
        for name in traits.guests:
            if not is_asked_for(name, brief):
                found = (name.first and self._rows(_BY_FULL, " ".join(name))) or self._rows(
                    _BY_LAST, name.last, show.slug, first
                )
                taken.update((name, row) for (row,) in found)
        if not taken:
            return passed("variety_names", 0, limit, "The people are this row's own.")
        said = ", ".join(f"{_as_written(name, synopsis)} (row {row})" for name, row in taken.items())
        message = f"People of other rows turn up whom neither cast nor brief names: {said}: rename them."
        return failed("variety_names", len(taken), limit, message, _mentions(synopsis.text, taken))

    def _rows(self, query: str, *values: str | int) -> list[tuple[str, ...]]:
        with reported():
            return self._database.execute(query, values).fetchall()


_BY_OPENING = "SELECT row FROM variety_texts WHERE opening = ? LIMIT 1"
_BY_TITLE = "SELECT row FROM variety_texts WHERE title = ? LIMIT 1"
_SINCE = "SELECT number FROM variety_texts WHERE show = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
_NAMED = "SELECT row FROM variety_names JOIN variety_texts USING (number) WHERE name = ?"
_BY_FULL = f"{_NAMED} ORDER BY number DESC LIMIT 1"
_BY_LAST = f"{_NAMED} AND show = ? AND number >= ? ORDER BY number DESC LIMIT 1"


def _as_written(name: Name, synopsis: Synopsis) -> str:
    return next(person.name for person in synopsis.characters if parse_name(person.name) == name)


def _mentions(text: str, names: Iterable[Name]) -> list[Span]:
    """Return where the last names stand, the first names before them within."""
    parts = [rf"(?:{re.escape(name.first)}\s+)?{re.escape(name.last)}s?" for name in names]
    return [Span(*match.span()) for match in re.finditer(rf"\b(?:{'|'.join(parts)})\b", text, re.IGNORECASE)]
