"""The proof of a house: how its gate judges its own texts, and damaged copies of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from synopsis_writer.brief import make_brief
from synopsis_writer.gate.copies import Source, index_sources
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.form import tense_of, tensed_verbs
from synopsis_writer.gate.gate import ALL_CHECKS, Gate
from synopsis_writer.gate.lexicon import word_lists
from synopsis_writer.gate.text import Text
from synopsis_writer.house.form import Level
from synopsis_writer.house.house import House
from synopsis_writer.learning.texts import OwnText
from synopsis_writer.show import Show, find_show, generic_show

MOST_REFUSED = 0.05  # share of a form's own texts that a check may refuse as an error
_MOST_DAMAGED = 40  # texts of which damaged copies are made, evenly spread

Judge = Callable[[int], tuple[House, Sequence[Show]]]  # the house that judges a text, by its number
_COPIED = 12  # words; a longer sentence counts as copied
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_ENGLISH = "Meanwhile nobody in the kitchen knows where the old keys are."
_STRANGERS = "Thomas Reuter, Sabine Kessler, Andreas Brandt, Stefan Lindner und Ulrike Petersen warten."
_FEWEST_VERBS = 8  # that show a tense


class Line(NamedTuple):
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
    """How many damaged copies of a form's texts the right check still refuses or warns of."""

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

    def with_warnings(self, checks: Collection[tuple[str, str]]) -> "Proof":
        """Return the proof of the house with these checks, by form and name, as warnings."""
        lines, damages = list(self.lines), list(self.damages)
        for index, line in enumerate(lines):
            if (line.form, line.check) in checks:
                lines[index] = line._replace(level="warning")
        for index, damage in enumerate(damages):
            if (damage.form, damage.check) in checks:
                damages[index] = damage._replace(refused=0, named=damage.named + damage.refused)
        return Proof(tuple(lines), tuple(damages))

    @property
    def caught(self) -> float:
        """The share of the damaged copies that are refused or named by the right check, 0 to 1."""
        copies = sum(line.copies for line in self.damages)
        return sum(line.refused + line.named for line in self.damages) / copies if copies else 1.0

    def as_data(self) -> dict[str, Any]:
        """Return the proof as JSON holds it."""
        checks, damages = ([line._asdict() for line in lines] for lines in (self.lines, self.damages))
        return {"checks": checks, "damages": damages}


def prove(texts: Sequence[OwnText], judge: Judge) -> Proof:
    """Judge each own text, and its damaged copies, by the house that `judge` gives for it."""
    # A text is no source that it must not copy; all others are.
    sources = index_sources([Source(own.id, own.text.raw, tuple(own.named)) for own in texts])
    found: defaultdict[tuple[str, str], list[tuple[str, Finding]]] = defaultdict(list)
    counts: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    step = -(-len(texts) // _MOST_DAMAGED)
    houses: dict[str, House] = {}
    for number, own in enumerate(texts):
        house, shows = judge(number)
        houses[own.form], gate = house, Gate(house, sources, shows=tuple(shows))
        for finding in _findings(gate, own, own.text.raw):
            found[own.form, finding.check].append((own.id, finding))
        other = texts[(number + 1) % len(texts)]
        for damage, check, copy, raw in damaged(own, other, house) if number % step == 0 else ():
            findings = _findings(replace(gate, disabled=frozenset(ALL_CHECKS) - {check}), copy, raw)
            level = next((each.level for each in findings if not each.passed), "passed")
            counts[own.form, damage, check].append(level)
    lines = []
    for (form, check), each in sorted(found.items(), key=lambda item: item[0][0]):
        failed = [(name, finding.level) for name, finding in each if not finding.passed]
        refused = tuple(name for name, level in failed if level == "error")
        named = tuple(name for name, level in failed if level == "warning")
        total = sum(own.form == form for own in texts)
        limit, own_level = each[-1][1].limit, houses[form].form(form).level(check)
        lines.append(Line(form, check, own_level, limit, total, refused, named))
    damages = []
    for key, levels in counts.items():
        damages.append(DamageLine(*key, len(levels), levels.count("error"), levels.count("warning")))
    return Proof(tuple(lines), tuple(damages))


def _findings(gate: Gate, own: OwnText, raw: str) -> tuple[Finding, ...]:
    show = find_show(gate.shows, own.show) or generic_show(own.show)
    brief = make_brief(show=show.name, theme=own.theme, form=own.form, characters=own.people, **own.given)
    return gate.judge(replace(gate.subject(raw, own.form, show, brief, own.title), exclude_source=own.id))


def damaged(own: OwnText, other: OwnText, house: House) -> Iterator[tuple[str, str, OwnText, str]]:
    """Yield what is wrong, the check that must name it, what was ordered, and the damaged text, by another text."""
    raw, form, marks = own.text.raw, house.form(own.form), house.quotation_marks
    sentences = [sentence.text for sentence in own.text.sentences]
    words, first, longest = raw.split(), sentences[0], max(sentences, key=len)

    def insert(passage: str) -> str:
        end = own.text.sentences[0].span.end
        return f"{raw[:end]} {passage}{raw[end:]}"

    quarter = " ".join(words[: max(3, len(words) // 4)])
    parted = "\n\n".join(sentences) if len(sentences) > form.paragraphs[1] else raw
    foreign = "„“" if marks != "„“" else "»«"
    quoted = raw.translate(str.maketrans(marks, foreign))
    if marks[0] not in raw:
        quoted = insert(f"{foreign[0]}Das wird nichts{foreign[1]}, denken alle.")
    exclaimed = raw
    for sentence in sentences:
        exclaimed = exclaimed.replace(sentence, re.sub(r" ?[.?…]$", "!", sentence))
    copied = [each.text for each in other.text.sentences if each.length > _COPIED and other is not own]
    umlauts = r"\b[a-zß]*[äöü][a-zäöüß]*"  # of words that are no names
    letters = r"\b([a-zäöüß])(.)(.)([a-zäöüß]*)(.)(.)\b"  # two pairs are swapped in each such word
    for name, check, text in (
        ("too short", "length", first if len(first) * 3 < len(raw) else f"{quarter}."),
        ("too long", "length", f"{raw} {other.text.raw} {raw} {raw}"),
        ("a paragraph for each sentence", "paragraphs", parted),
        ("cut in mid-sentence", "ending", raw.rsplit(maxsplit=2)[0].rstrip('.?!…,“”«»"')),
        ("an English sentence", "language", insert(_ENGLISH)),
        ("a list", "markup", "- " + "\n- ".join(sentences)),
        ("other quotation marks", "markup", quoted),
        ("talk to the customer", "meta_talk", f"Gerne! Hier ist die gewünschte Inhaltsangabe:\n\n{raw}"),
        ("exclamations", "exclamations", exclaimed),
        ("first person", "person", insert("Ich habe das alles kommen sehen, und wir haben nichts getan.")),
        ("other tense", "tense", _in_preterite(own.text) if form.tense == "present" else raw),
        ("umlauts written out", "umlauts", re.sub(umlauts, lambda each: each[0].translate(_UMLAUTS), raw)),
        ("typing errors", "spelling", re.sub(letters, r"\1\3\2\4\6\5", raw)),
        ("a sentence of another text", "copy", insert(copied[0]) if copied else raw),
        ("a sentence three times", "repetition", insert(f"{longest} {longest}")),
        ("strangers", "cast", insert(_STRANGERS)),
        ("air date", "dates", insert("Zu sehen ist die Folge am 14. März 2027 um 20.15 Uhr im Ersten.")),
    ):
        if text != raw:
            yield name, check, own, text
    if other.show != own.show and other.theme != own.theme:
        yield "theme of another show", "theme", replace(own, theme=other.theme), raw


def _in_preterite(text: Text) -> str:
    """Put the verbs of a text into the preterite, if most can be, and they show a tense."""
    irregular = dict(pair.split() for pair in word_lists("preterites")["irregular"])
    verbs = tensed_verbs(text)
    raw, changed = text.raw, 0
    for verb in reversed(verbs):
        word = verb.word
        pasts = [f"{word.lower}e", f"{word.lower[:-1]}ete", f"{word.lower[:-2]}ten"]
        pasts = [irregular.get(word.lower, ""), *pasts]
        past = next((each for each in pasts if each and tense_of(each) == "preterite"), "")
        if past and verb.tense == "present":
            past = past.capitalize() if word.form[0].isupper() else past
            raw, changed = f"{raw[: word.span.start]}{past}{raw[word.span.end :]}", changed + 1
    return raw if len(verbs) >= _FEWEST_VERBS and changed * 3 >= len(verbs) * 2 else text.raw
