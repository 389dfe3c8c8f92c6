"""Compares a text with the other rows of its batch, and continues the arc of a season."""

import re
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, RootModel

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.store import BatchStore, reported
from synopsis_writer.brief import MOST_BEATS, MOST_BEFORE, Beat, Brief
from synopsis_writer.document import read_fields
from synopsis_writer.errors import BriefError
from synopsis_writer.gate import sources
from synopsis_writer.gate.cast import Name, parse_name
from synopsis_writer.gate.finding import Finding, judged, say
from synopsis_writer.gate.lexicon import FUNCTION_WORDS, SHORTEST_CONTENT, stem
from synopsis_writer.gate.story import COPIED_RUN
from synopsis_writer.gate.text import Span, analyse, folded, lower_words, word_spans
from synopsis_writer.settings import Settings
from synopsis_writer.show import Show
from synopsis_writer.storage.sqlite import transaction
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.writer import Writer

CHECKS = ("variety_copy", "variety_opening", "variety_title", "variety_names")

# Share of the runs of six words: two of 82 independent texts share 0.25 % at most, and that is a show's name;
# texts of which 20 % of the words were changed at random share 18 % or more.
SHARED = 0.05
SEASON = 50  # rows of a show in which a last name alone does not come back; a season has about 30
OPENING = 4  # words with content: two shared ones occur once in 82 good texts, three never
_SHORTEST_OPENING = 3  # words: two texts may both begin with `Es regnet.`
_CANDIDATES = 5  # texts with the most shared fingerprints, which are compared
_CHUNK = 10_000  # texts read at a time
_SINCE = "SELECT number FROM variety_texts WHERE show = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
_NAMED = "SELECT row FROM variety_names JOIN variety_texts USING (number) WHERE name = ?"


@dataclass(frozen=True)
class Features:
    """What is compared with the other rows."""

    title: str  # lower case, without punctuation and a leading article
    opening: str  # the stems the text begins with; empty when its first sentence is too short to compare
    people: tuple[str, ...]  # the full names the answer declares
    guests: tuple[Name, ...]  # those beyond the cast and its families, where a last name is known
    fingerprints: sources.Fingerprints  # hashes of some runs of six words, sorted; shape (words / 8,)


class Variety:
    """The accepted texts of a batch, by what no other row may have; methods raise FileError for the database."""

    def __init__(
        self, database: sqlite3.Connection, read: Callable[[str], str], disabled: Collection[str] = ()
    ) -> None:
        self._database = database
        self._disabled = frozenset(disabled)
        self._read = read
        self._index = sources.FingerprintIndex()
        with reported():
            cursor = database.execute("SELECT number, marks FROM variety_texts ORDER BY number")
            while rows := cursor.fetchmany(_CHUNK):
                hashes = [np.frombuffer(blob, dtype="<u4") for _, blob in rows]
                numbers = np.repeat([number for number, _ in rows], [len(part) for part in hashes])
                self._index.add(np.concatenate(hashes), numbers)

    def load(self, rows: Iterable[tuple[str, Synopsis, Show]]) -> None:
        """Add accepted rows, all or none, within the caller's transaction if there is one."""
        is_nested = self._database.in_transaction
        with reported(), nullcontext() if is_nested else transaction(self._database):
            for row, synopsis, show in rows:
                if self._rows("SELECT number FROM variety_texts WHERE row = ?", row):
                    continue
                features = features_of(synopsis, show)
                people, marks = "\n".join(features.people), features.fingerprints.astype("<u4").tobytes()
                number = self._database.execute(
                    "INSERT INTO variety_texts (row, show, title, opening, people, marks) VALUES (?, ?, ?, ?, ?, ?)",
                    (row, show.slug, features.title, features.opening, people, marks),
                ).lastrowid
                keys = {key for name in features.guests for key in (name.last, " ".join(filter(None, name)))}
                values = [(key, number) for key in keys]
                self._database.executemany("INSERT INTO variety_names VALUES (?, ?)", values)
                self._index.add(features.fingerprints, number or 0)

    def find(self, synopsis: Synopsis, show: Show, brief: Brief) -> tuple[Finding, ...]:
        """Compare a text with the accepted ones: one finding a check, in the order of `CHECKS`."""
        features = features_of(synopsis, show)
        opening, spans = features.opening, [Span(0, len(_opening(synopsis)))]
        checks: dict[str, Callable[[], Finding]] = {
            "variety_copy": lambda: self._copy(synopsis, show, features),
            "variety_opening": lambda: self._same("opening", opening, opening, spans),
            "variety_title": lambda: self._same("title", features.title, synopsis.title),
            "variety_names": lambda: self._names(synopsis, show, brief, features),
        }
        return tuple(check() for name, check in checks.items() if name not in self._disabled)

    def _copy(self, synopsis: Synopsis, show: Show, features: Features) -> Finding:
        limit = say("limit copy", words=COPIED_RUN, share=SHARED)
        text, candidates = synopsis.text, self._candidates(features.fingerprints)
        people = [name for names in candidates.values() for name in names]
        names = sources.name_forms((*features.people, *people, *cast_names(show)))
        texts = [text, *map(self._read, candidates)]
        runs, *others = (sources.run_hashes(lower_words(each), names) for each in texts)
        for row, other in zip(candidates, others, strict=True):
            shared = sources.shared_runs(runs, other)
            share = sum(map(len, shared)) / max(1, len(runs))
            if share <= SHARED and (not shared or len(shared[0]) + sources.RUN - 1 < COPIED_RUN):
                continue
            words = word_spans(text)
            spans = [Span(words[run.start].start, words[run.stop + sources.RUN - 2].end) for run in shared]
            longest = max(own_words(text[slice(*span)], show, names) for span in spans)
            if longest >= COPIED_RUN or share > SHARED:
                problem = say("variety_copy", n=longest, row=row, share=share)
                return judged("variety_copy", longest, limit, problem, spans)
        return judged("variety_copy", 0, limit)

    def _candidates(self, fingerprints: sources.Fingerprints) -> dict[str, list[str]]:
        """Return the rows that share the most fingerprints, and the people of each."""
        query = "SELECT row, people FROM variety_texts WHERE number = ?"
        numbers = self._index.sharing(fingerprints).most_common(_CANDIDATES)
        # After a transaction that was undone the index has numbers that the table has not.
        return {row: people.split("\n") for number, _ in numbers for row, people in self._rows(query, number)}

    def _same(self, column: str, key: str, value: str, spans: Sequence[Span] = ()) -> Finding:
        sql = f"SELECT row FROM variety_texts WHERE {column} = ? LIMIT 1"  # noqa: S608
        rows = self._rows(sql, key) if key else []
        check = f"variety_{column}"
        problem = say(check, row=rows[0][0], words=[value]) if rows else None
        return judged(check, value, say(f"limit {check}"), problem, spans)

    def _names(self, synopsis: Synopsis, show: Show, brief: Brief, features: Features) -> Finding:
        limit = say("limit variety_names", most=SEASON)
        if not show.cast:
            return judged("variety_names", 0, limit, held=say("no cast"))
        since = self._rows(_SINCE, show.slug, SEASON - 1)
        first = since[0][0] if since else 0
        taken: dict[Name, str] = {}
        for name in features.guests:
            if not is_asked_for(name, brief):
                latest = "ORDER BY number DESC LIMIT 1"
                rows = self._rows(f"{_NAMED} {latest}", " ".join(name)) if name.first else []
                of_season = f"{_NAMED} AND show = ? AND number >= ? {latest}"
                rows = rows or self._rows(of_season, name.last, show.slug, first)
                taken.update((name, row) for (row,) in rows)
        if not taken:
            return judged("variety_names", 0, limit)
        written = {parse_name(person.name): person.name for person in reversed(synopsis.characters)}
        people = ", ".join(f"{written[name]} (row {row})" for name, row in taken.items())
        # The last names, and first names before them.
        parts = [rf"(?:{re.escape(name.first)}\s+)?{re.escape(name.last)}s?" for name in taken]
        mentions = re.finditer(rf"\b(?:{'|'.join(parts)})\b", synopsis.text, re.IGNORECASE)
        spans = [Span(*mention.span()) for mention in mentions]
        return judged("variety_names", len(taken), limit, say("variety_names", people=people), spans)

    def _rows(self, query: str, *values: str | int) -> list[tuple[str, ...]]:
        with reported():
            return self._database.execute(query, values).fetchall()


@lru_cache(maxsize=64)  # a text is looked at when it comes, once more when it is saved, and then added
def features_of(synopsis: Synopsis, show: Show) -> Features:
    """Return what of a synopsis is compared with the other rows."""
    people = tuple(person.name for person in synopsis.characters)
    names = sources.name_forms((*people, *cast_names(show)))
    title, opening = folded_title(synopsis.title), opening_key(synopsis, show, names)
    prints = sources.fingerprints(sources.run_hashes(lower_words(synopsis.text), names))
    return Features(title, opening, people, guests(people, show), prints)


def cast_names(show: Show) -> tuple[str, ...]:
    """Return the full names of the show's cast."""
    return tuple(member.name for member in show.cast)


def own_words(passage: str, show: Show, names: Collection[str]) -> int:
    """Return how many words of a passage are neither `names` nor the show's name, which rows may share."""
    series = "|".join(r"\W+".join(map(re.escape, lower_words(name))) for name in (show.name, *show.aliases))
    return sum(word not in names for word in lower_words(re.sub(rf"\b(?:{series})\b", " ", passage.lower())))


_ARTICLE = re.compile(r"(?:der|die|das|ein|eine) (?=.)")


def folded_title(title: str) -> str:
    """Return a title in lower case, without punctuation and article: `Das Spiel!` is `spiel`."""
    return _ARTICLE.sub("", re.sub(r"[\W_]+", " ", folded(title)).strip(), count=1)


def _opening(synopsis: Synopsis) -> str:
    opening = analyse(synopsis.text).opening
    return opening.text if opening else ""


def opening_key(synopsis: Synopsis, show: Show, names: Iterable[str]) -> str:
    """Return the stems of the first four content words, without those of `names` and of the show's name."""
    left_out = sources.name_forms((show.name, *show.aliases)).union(names)
    words = [word for word in lower_words(_opening(synopsis)) if word not in left_out]
    content = [word for word in words if len(word) >= SHORTEST_CONTENT and word not in FUNCTION_WORDS]
    opening = content[:OPENING] if len(content) >= OPENING else words
    return " ".join(map(stem, opening)) if len(opening) >= _SHORTEST_OPENING else ""


def guests(people: Iterable[str], show: Show) -> tuple[Name, ...]:
    """Return the people with a last name that nobody of the cast has; a family of the cast belongs to it."""
    families = {parse_name(name).last for name in cast_names(show)}
    names = dict.fromkeys(map(parse_name, people))
    return tuple(name for name in names if name.last and name.last not in families)


def is_asked_for(name: Name, brief: Brief) -> bool:
    """Whether any field of the brief names the person, by the last name at least."""
    lines = (brief.theme, brief.notes or "", *brief.characters, *brief.beats, *brief.before)
    return any(word in {name.last, name.last + "s"} for line in lines for word in lower_words(line))


def for_gate(settings: Settings) -> Settings:
    """Return the settings without the disabled checks of variety: a gate knows none of them."""
    disable = tuple(name for name in settings.disable if name not in CHECKS)
    return settings.model_copy(update={"disable": disable})


_Id = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
_List = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)


class _ArcFile(RootModel[dict[_Id, Annotated[tuple[Beat, ...], _List]]], frozen=True):
    """The beats of each row, by its id."""


class Arc:
    """Passes what the rows of a show have established on to its later rows.

    Facts are always passed on, title and logline once the text is accepted. Where that is too much for a brief, the
    loglines of the earliest rows are left out.
    """

    def __init__(self, path: Path, store: BatchStore, writer: Writer) -> None:
        self._facts = read_fields(path, _ArcFile, BriefError).root
        self._store, self._writer = store, writer
        self._rows: list[BatchRow] = []
        for name in self._facts:
            if (known := store.row(name)) is None:
                raise BriefError(f"{path}: the batch has no row '{name}': name rows by their column 'id'")
            self._rows.append(known)
        self._rows.sort(key=lambda row: row.place)
        counts: Counter[str] = Counter()
        for row in self._rows:
            if len(beats := self._beats(row)) > MOST_BEATS:
                raise BriefError(
                    f"{path}: row '{row.id}' has {len(beats)} beats and facts, at most {MOST_BEATS} are "
                    "allowed: tell its part in fewer facts"
                )
            show = self._show(row)
            counts[show] += len(self._facts[row.id])
            if counts[show] > MOST_BEFORE:
                raise BriefError(
                    f"{path}: more than {MOST_BEFORE} facts of '{show}' up to row '{row.id}': keep those "
                    "that later rows need"
                )

    def continued(self, row: BatchRow) -> BatchRow:
        """Return the row with its own facts as beats, and what was before."""
        show = self._show(row)
        earlier = [each for each in self._rows if each.place < row.place and self._show(each) == show]
        before: dict[int, tuple[str, ...]] = {each.place: self._facts[each.id] for each in earlier}
        room = MOST_BEFORE - sum(map(len, before.values()))
        accepted = self._store.accepted("AND place < ?", row.place)
        for text in deque((text for text in accepted if self._show(text) == show), room):
            line = f"„{text.synopsis.title}“: {text.synopsis.logline}"
            before[text.place] = (line, *before.get(text.place, ()))
        lines = tuple(line for place in sorted(before) for line in before[place])
        return replace(row, brief=row.brief.model_copy(update={"beats": self._beats(row), "before": lines}))

    def _beats(self, row: BatchRow) -> tuple[str, ...]:
        facts = self._facts.get(row.id, ())
        return (*row.brief.beats, *(fact for fact in facts if fact not in row.brief.beats))

    def _show(self, row: BatchRow) -> str:
        return self._writer.workspace.find_show(row.brief.show).name
