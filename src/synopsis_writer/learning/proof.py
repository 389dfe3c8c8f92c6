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
from synopsis_writer.gate.lexicon import word_lists
from synopsis_writer.gate.text import analyse
from synopsis_writer.house.form import Level
from synopsis_writer.house.house import House
from synopsis_writer.learning.texts import OwnText
from synopsis_writer.show import Show, find_show, generic_show

MOST_REFUSED = 0.05  # share of a form's own texts that a check may refuse as an error
_MOST_DAMAGED = 40  # texts of which damaged copies are made, evenly spread

Levels = Mapping[str, Mapping[str, Level]]  # by form and check
Judge = Callable[[int], tuple[House, Sequence[Show]]]  # the house that judges a text, by its number


@dataclass(frozen=True)
class Line:
    """How a check judges the own texts of a form."""

    form: str
    check: str
    level: Level
    limit: str  # in words; of the last text, for it may follow the brief
    texts: int
    refused: tuple[str, ...]  # the ids of the texts
    named: tuple[str, ...]  # of those that it warns of

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
            if copy != own:
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
        number = sum(own.form == form for own in texts)
        lines.append(Line(form, check, level, each[-1][1].limit, number, refused, named))
    damages = [
        DamageLine(form, each.name, each.check, len(levels), levels.count("error"), levels.count("warning"))
        for (form, each), levels in counts.items()
    ]
    return Proof(tuple(lines), tuple(damages))


def _findings(gate: Gate, own: OwnText) -> tuple[Finding, ...]:
    show = find_show(gate.shows, own.show) or generic_show(own.show)
    fields = {**own.given, "theme": own.theme, "form": own.form, "characters": own.people}
    brief = make_brief(show=show.name, **fields)
    subject = gate.subject(own.text.raw, own.form, show, brief, own.title)
    return gate.judge(replace(subject, exclude_source=own.id))


class _Case(NamedTuple):
    """A text to damage, another one of the house, and the house."""

    own: OwnText
    other: OwnText
    house: House

    @property
    def raw(self) -> str:
        return self.own.text.raw

    @property
    def sentences(self) -> list[str]:
        return [sentence.text for sentence in self.own.text.sentences]

    def rewritten(self, raw: str) -> OwnText:
        """Return the text with other words."""
        return self.own if raw == self.raw else replace(self.own, text=analyse(raw))

    def with_passage(self, passage: str) -> OwnText:
        """Return the text with a passage behind its first sentence."""
        end = self.own.text.sentences[0].span.end
        return self.rewritten(f"{self.raw[:end]} {passage}{self.raw[end:]}")


class Damage(NamedTuple):
    """A kind of corruption: what is wrong, the check that must name it, and how a copy is made.

    Where it finds nothing to damage, `change` returns the text as it is.
    """

    name: str
    check: str
    change: Callable[[_Case], OwnText]


def _inserted(name: str, check: str, passage: str) -> Damage:
    return Damage(name, check, lambda case: case.with_passage(passage))


def _too_short(case: _Case) -> OwnText:
    first, words = case.sentences[0], case.raw.split()
    quarter = " ".join(words[: max(3, len(words) // 4)])
    return case.rewritten(first if len(first) * 3 < len(case.raw) else f"{quarter}.")


def _parted(case: _Case) -> OwnText:
    """Make each sentence a paragraph, where those are more than the form allows."""
    most = case.house.form(case.own.form).paragraphs[1]
    return case.rewritten("\n\n".join(case.sentences)) if len(case.sentences) > most else case.own


def _other_marks(case: _Case) -> OwnText:
    marks = case.house.quotation_marks
    others = "„“" if marks != "„“" else "»«"
    if marks[0] in case.raw:
        return case.rewritten(case.raw.translate(str.maketrans(marks, others)))
    return case.with_passage(f"{others[0]}Das wird nichts{others[1]}, denken alle.")


def _exclaimed(case: _Case) -> OwnText:
    raw = case.raw
    for sentence in case.sentences:
        raw = raw.replace(sentence, re.sub(r" ?[.?…]$", "!", sentence))
    return case.rewritten(raw)


_FEWEST_VERBS = 8  # that show a tense


def _other_tense(case: _Case) -> OwnText:
    """Put the verbs of a text in the present into the preterite, if most can be, and they show a tense."""
    irregular = dict(pair.split() for pair in word_lists("preterites")["irregular"])
    verbs = tensed_verbs(case.own.text)
    raw, changed = case.raw, 0
    for verb in reversed(verbs):
        word = verb.word
        pasts = [f"{word.lower}e", f"{word.lower[:-1]}ete", f"{word.lower[:-2]}ten"]
        pasts = [irregular.get(word.lower, ""), *pasts]
        past = next((each for each in pasts if each and tense_of(each) == "preterite"), "")
        if past and verb.tense == "present":
            past = past.capitalize() if word.form[0].isupper() else past
            raw, changed = f"{raw[: word.span.start]}{past}{raw[word.span.end :]}", changed + 1
    is_present = case.house.form(case.own.form).tense == "present"
    is_shown = is_present and len(verbs) >= _FEWEST_VERBS and changed * 3 >= len(verbs) * 2
    return case.rewritten(raw) if is_shown else case.own


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def _without_umlauts(case: _Case) -> OwnText:
    """Write ae, oe, ue in words that are no names."""
    word = r"\b[a-zß]*[äöü][a-zäöüß]*"
    return case.rewritten(re.sub(word, lambda match: match[0].translate(_UMLAUTS), case.raw))


def _with_typos(case: _Case) -> OwnText:
    """Swap two pairs of letters in every lower-case word of five letters or more."""
    return case.rewritten(re.sub(r"\b([a-zäöüß])(.)(.)([a-zäöüß]*)(.)(.)\b", r"\1\3\2\4\6\5", case.raw))


_COPIED = 12  # words; a longer sentence counts as copied


def _copied(case: _Case) -> OwnText:
    long = [sentence.text for sentence in case.other.text.sentences if sentence.length > _COPIED]
    return case.with_passage(long[0]) if long and case.other is not case.own else case.own


def _other_theme(case: _Case) -> OwnText:
    return replace(case.own, theme=case.other.theme) if case.other.show != case.own.show else case.own


DAMAGES = (
    Damage("too short", "length", _too_short),
    Damage(
        "too long",
        "length",
        lambda case: case.rewritten(f"{case.raw} {case.other.text.raw} {case.raw} {case.raw}"),
    ),
    Damage("a paragraph for each sentence", "paragraphs", _parted),
    Damage(
        "cut in mid-sentence",
        "ending",
        lambda case: case.rewritten(case.raw.rsplit(maxsplit=2)[0].rstrip('.?!…,“”«»"')),
    ),
    _inserted(
        "an English sentence", "language", "Meanwhile nobody in the kitchen knows where the old keys are."
    ),
    Damage("a list", "markup", lambda case: case.rewritten("- " + "\n- ".join(case.sentences))),
    Damage("other quotation marks", "markup", _other_marks),
    Damage(
        "talk to the customer",
        "meta_talk",
        lambda case: case.rewritten(f"Gerne! Hier ist die gewünschte Inhaltsangabe:\n\n{case.raw}"),
    ),
    Damage("exclamations", "exclamations", _exclaimed),
    _inserted("first person", "person", "Ich habe das alles kommen sehen, und wir haben nichts getan."),
    Damage("other tense", "tense", _other_tense),
    Damage("umlauts written out", "umlauts", _without_umlauts),
    Damage("typing errors", "spelling", _with_typos),
    Damage("a sentence of another text", "copy", _copied),
    Damage(
        "a sentence three times",
        "repetition",
        lambda case: case.with_passage(" ".join([max(case.sentences, key=len)] * 2)),
    ),
    Damage("theme of another show", "theme", _other_theme),
    _inserted(
        "strangers",
        "cast",
        "Thomas Reuter, Sabine Kessler, Andreas Brandt, Stefan Lindner und Ulrike Petersen warten.",
    ),
    _inserted("air date", "dates", "Zu sehen ist die Folge am 14. März 2027 um 20.15 Uhr im Ersten."),
)
