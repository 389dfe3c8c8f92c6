"""The proof of a house: how its gate judges its own texts, and damaged copies of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from synopsis_writer.brief import make_brief
from synopsis_writer.gate.copies import Source as CopySource
from synopsis_writer.gate.copies import index_sources
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.form import tense_of, tensed_verbs
from synopsis_writer.gate.gate import Gate
from synopsis_writer.gate.text import analyse
from synopsis_writer.house.form import Level
from synopsis_writer.house.house import House, QuotationMarks
from synopsis_writer.learning.texts import OwnText
from synopsis_writer.show import Show, find_show, generic_show

MOST_REFUSED = 0.05  # share of a form's own texts that a check may refuse as an error
_MOST_DAMAGED = 40  # texts of which damaged copies are made, evenly spread

Levels = Mapping[str, Mapping[str, Level]]  # by form and check
Judge = Callable[[int], tuple[House, Sequence[Show]]]  # the house that judges a text, by its number


@dataclass(frozen=True)
class Line:
    """How a check judges the own texts of a form.

    Attributes:
        limit: what it measures against, in words; of the last text, for it may follow the brief.
        refused, named: the ids of the texts that it refuses, and of those that it warns of.
    """

    form: str
    check: str
    level: Level
    limit: str
    texts: int
    refused: tuple[str, ...]
    named: tuple[str, ...]

    @property
    def is_too_strict(self) -> bool:
        """Whether it refuses more than one in twenty."""
        return len(self.refused) > MOST_REFUSED * self.texts


class DamageLine(NamedTuple):
    """How many damaged copies of a form's texts the right check still refuses, or as a warning names."""

    form: str
    damage: str
    check: str
    copies: int
    refused: int
    named: int


@dataclass(frozen=True)
class Proof:
    """What a house's gate says of its own texts and of damaged copies."""

    lines: tuple[Line, ...]
    damages: tuple[DamageLine, ...]

    def reason(self, form: str, check: str) -> str:
        """Return why a check is a warning."""
        line = next(line for line in self.lines if (line.form, line.check) == (form, check))
        if line.is_too_strict:
            return f"it would refuse {len(line.refused)} of your {line.texts} texts"
        return "your texts have no themes to prove it on"

    @property
    def levels(self) -> dict[str, dict[str, Level]]:
        """The checks that refuse too many own texts, as warnings, by form."""
        found: defaultdict[str, dict[str, Level]] = defaultdict(dict)
        for line in self.lines:
            if line.level == "error" and line.is_too_strict:
                found[line.form][line.check] = "warning"
        return dict(found)

    def with_levels(self, levels: Levels) -> "Proof":
        """Return the proof of the same house with these levels: what an error refused, a warning names."""
        lines = [
            replace(line, level=levels.get(line.form, {}).get(line.check, line.level)) for line in self.lines
        ]
        damages = [
            line._replace(refused=0, named=line.named + line.refused)
            if levels.get(line.form, {}).get(line.check) == "warning"
            else line
            for line in self.damages
        ]
        return Proof(tuple(lines), tuple(damages))

    @property
    def caught(self) -> float:
        """The share of the damaged copies that are refused or named by the right check, 0 to 1."""
        copies = sum(line.copies for line in self.damages)
        return sum(line.refused + line.named for line in self.damages) / copies if copies else 1.0

    def as_data(self) -> dict[str, Any]:
        """Return the proof as JSON holds it."""
        return {
            "checks": [vars(line) for line in self.lines],
            "damages": [line._asdict() for line in self.damages],
        }


def prove(texts: Sequence[OwnText], judge: Judge) -> Proof:
    """Judge each own text, and its damaged copies, by the house that `judge` gives for it.

    A text is no source that it must not copy; all others are.
    """
    sources = index_sources([CopySource(own.id, own.text.raw, tuple(own.named)) for own in texts])
    found: dict[tuple[str, str], list[tuple[OwnText, Finding]]] = defaultdict(list)
    counts: dict[tuple[str, Damage], list[str]] = defaultdict(list)
    step = -(-len(texts) // _MOST_DAMAGED)
    gates: dict[str, Gate] = {}
    for number, own in enumerate(texts):
        house, shows = judge(number)
        gate = gates[own.form] = Gate(house, sources, shows=tuple(shows))
        for finding in _findings(gate, own):
            found[own.form, finding.check].append((own, finding))
        for damage in DAMAGES if number % step == 0 else ():
            copy = damage.change(_Case(own, texts[(number + 1) % len(texts)], house))
            if copy is not None and copy != own:
                levels = (
                    each.level
                    for each in _findings(gate, copy)
                    if each.check == damage.check and not each.passed
                )
                counts[own.form, damage].append(next(levels, "passed"))
    lines = []
    for (form, check), each in sorted(found.items(), key=lambda item: item[0][0]):
        refused = tuple(own.id for own, finding in each if not finding.passed and finding.level == "error")
        named = tuple(own.id for own, finding in each if not finding.passed and finding.level == "warning")
        level = gates[form].house.form(form).level(check)
        lines.append(
            Line(
                form, check, level, each[-1][1].limit, sum(own.form == form for own in texts), refused, named
            )
        )
    return Proof(
        tuple(lines),
        tuple(
            DamageLine(
                form, damage.name, damage.check, len(levels), levels.count("error"), levels.count("warning")
            )
            for (form, damage), levels in counts.items()
        ),
    )


def _findings(gate: Gate, own: OwnText) -> tuple[Finding, ...]:
    show = find_show(gate.shows, own.show) or generic_show(own.show)
    brief = make_brief(show=show.name, theme=own.theme, form=own.form, characters=own.people)
    subject = gate.subject(own.text.raw, own.form, show, brief, own.title)
    return gate.judge(replace(subject, exclude_source=own.id))


class _Case(NamedTuple):
    """A text to damage, another one of the house, and the house."""

    own: OwnText
    other: OwnText
    house: House


class Damage(NamedTuple):
    """A kind of corruption: what is wrong, the check that must name it, and how a copy is made."""

    name: str
    check: str
    change: Callable[[_Case], OwnText | None]


def _text(change: Callable[[str, _Case], str]) -> Callable[[_Case], OwnText | None]:
    def damaged(case: _Case) -> OwnText:
        raw = change(case.own.text.raw, case)
        return case.own if raw == case.own.text.raw else replace(case.own, text=analyse(raw))

    return damaged


def _inserted(passage: str) -> Callable[[_Case], OwnText | None]:
    """Put a passage behind the first sentence."""
    return _text(lambda raw, case: _behind_first(raw, case, passage))


def _behind_first(raw: str, case: _Case, passage: str) -> str:
    end = case.own.text.sentences[0].span.end
    return f"{raw[:end]} {passage}{raw[end:]}"


def _sentences(case: _Case, change: Callable[[int, str], str]) -> str:
    """Change each sentence, given its number."""
    raw, end, parts = case.own.text.raw, 0, list[str]()
    for number, sentence in enumerate(case.own.text.sentences):
        parts += [raw[end : sentence.span.start], change(number, sentence.text)]
        end = sentence.span.end
    return "".join(parts)


_FEWEST_VERBS = 8  # that show a tense
_IRREGULAR = dict(
    pair.split("-")
    for pair in (
        "ist-war sind-waren hat-hatte haben-hatten wird-wurde werden-wurden kann-konnte können-konnten "
        "muss-musste müssen-mussten will-wollte wollen-wollten soll-sollte sollen-sollten darf-durfte "
        "geht-ging gehen-gingen kommt-kam kommen-kamen steht-stand stehen-standen findet-fand finden-fanden "
        "sieht-sah sehen-sahen gibt-gab geben-gaben nimmt-nahm nehmen-nahmen lässt-liess bleibt-blieb "
        "hält-hielt halten-hielten trifft-traf treffen-trafen bringt-brachte bringen-brachten weiss-wusste "
        "liegt-lag liegen-lagen sitzt-sass spricht-sprach verliert-verlor beginnt-begann zieht-zog "
        "schreibt-schrieb verschwindet-verschwand bittet-bat denkt-dachte erfährt-erfuhr verlässt-verliess"
    ).split()
)


def _other_tense(case: _Case) -> OwnText | None:
    """Put the verbs of a text in the present into the preterite; None where few can be, or show a tense."""
    form = case.house.form(case.own.form)
    verbs = tensed_verbs(case.own.text)
    raw, changed = case.own.text.raw, 0
    for verb in reversed(verbs):
        word = verb.word
        pasts = (
            _IRREGULAR.get(word.lower, ""),
            f"{word.lower}e",
            f"{word.lower[:-1]}ete",
            f"{word.lower[:-2]}ten",
        )
        past = next((each for each in pasts if each and tense_of(each) == "preterite"), "")
        if past and verb.tense == "present":
            past = past.capitalize() if word.form[0].isupper() else past
            raw, changed = f"{raw[: word.span.start]}{past}{raw[word.span.end :]}", changed + 1
    is_shown = form.tense == "present" and len(verbs) >= _FEWEST_VERBS and changed * 3 >= len(verbs) * 2
    return replace(case.own, text=analyse(raw)) if is_shown else None


def _other_marks(raw: str, case: _Case) -> str:
    marks: QuotationMarks = case.house.quotation_marks
    opening, closing = "„“" if marks != "„“" else "»«"
    if marks[0] in raw:
        return raw.translate({ord(marks[0]): opening, ord(marks[1]): closing})
    return _behind_first(raw, case, f"{opening}Das wird nichts{closing}, denken alle.")


def _typos(raw: str, _: _Case) -> str:
    """Swap two pairs of letters in every lower-case word of five letters or more."""
    return re.sub(r"\b([a-zäöüß])(.)(.)([a-zäöüß]*)(.)(.)\b", r"\1\3\2\4\6\5", raw)


def _too_short(raw: str, case: _Case) -> str:
    first = case.own.text.sentences[0].text
    return (
        first if len(first) * 3 < len(raw) else " ".join(raw.split()[: max(3, len(raw.split()) // 4)]) + "."
    )


def _copied(raw: str, case: _Case) -> str:
    """Insert a sentence of another text that is longer than what counts as copied."""
    others = [sentence.text for sentence in case.other.text.sentences if sentence.length > _COPIED]
    return _behind_first(raw, case, others[0]) if others and case.other is not case.own else raw


_COPIED = 12  # words


def _other_theme(case: _Case) -> OwnText | None:
    return replace(case.own, theme=case.other.theme) if case.other.show != case.own.show else None


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def _parted(case: _Case) -> str:
    """Make each sentence a paragraph, where that is more than twice the most."""
    told = [each.text for each in case.own.text.sentences]
    most = case.house.form(case.own.form).paragraphs[1]
    return "\n\n".join(told) if len(told) > most else case.own.text.raw


DAMAGES = (
    Damage("too short", "length", _text(_too_short)),
    Damage("too long", "length", _text(lambda raw, case: f"{raw} {case.other.text.raw} {raw} {raw}")),
    Damage("a paragraph for each sentence", "paragraphs", _text(lambda _, case: _parted(case))),
    Damage(
        "cut in mid-sentence", "ending", _text(lambda raw, _: raw.rsplit(maxsplit=2)[0].rstrip('.?!…,“”«»"'))
    ),
    Damage(
        "an English sentence",
        "language",
        _inserted("Meanwhile nobody in the kitchen knows where the old keys are."),
    ),
    Damage(
        "a list",
        "markup",
        _text(lambda _, case: "\n".join(f"- {each.text}" for each in case.own.text.sentences)),
    ),
    Damage("other quotation marks", "markup", _text(_other_marks)),
    Damage(
        "talk to the customer",
        "meta_talk",
        _text(lambda raw, _: f"Gerne! Hier ist die gewünschte Inhaltsangabe:\n\n{raw}"),
    ),
    Damage(
        "exclamations",
        "exclamations",
        _text(lambda _, case: _sentences(case, lambda _, each: re.sub(r" ?[.?…]$", "!", each))),
    ),
    Damage(
        "first person", "person", _inserted("Ich habe das alles kommen sehen, und wir haben nichts getan.")
    ),
    Damage("other tense", "tense", _other_tense),
    Damage(
        "umlauts written out",
        "umlauts",
        _text(
            lambda raw, _: re.sub(
                r"\b[a-zß]*[äöü][a-zäöüß]*", lambda match: match[0].translate(_UMLAUTS), raw
            )
        ),
    ),
    Damage("typing errors", "spelling", _text(_typos)),
    Damage("a sentence of another text", "copy", _text(_copied)),
    Damage(
        "a sentence three times",
        "repetition",
        _text(
            lambda raw, case: _behind_first(
                raw, case, " ".join([max((each.text for each in case.own.text.sentences), key=len)] * 2)
            )
        ),
    ),
    Damage("theme of another show", "theme", _other_theme),
    Damage(
        "strangers",
        "cast",
        _inserted(
            "Thomas Reuter, Sabine Kessler, Andreas Brandt, Stefan Lindner und Ulrike Petersen warten."
        ),
    ),
    Damage("air date", "dates", _inserted("Zu sehen ist die Folge am 14. März 2027 um 20.15 Uhr im Ersten.")),
)
