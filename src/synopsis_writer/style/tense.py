"""The check of tense: the narration keeps to the form's tense, and does not switch without reason."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.style.profile import within
from synopsis_writer.style.text import Text, Word

Tense = Literal["present", "preterite"]
_LEAST_VERBS = 8  # fewer do not tell a tense
_HALF = 0.5
# Sentences and verbs from which on a stretch in the other tense is a switch. A text in the present may
# look back for two sentences; one in the preterite states at most a single fact that still holds.
_STRETCH: dict[Tense, tuple[int, int]] = {"present": (3, 4), "preterite": (2, 3)}
_LOOKS_BACK = re.compile(
    r"\b(?:damals|früher|einst|seinerzeit|ehemals|zuvor|jene[mnrs]?|hatten?|"
    r"vor (?:\w+ ){0,3}(?:Tag|Woche|Monat|Jahr|Jahrzehnt)\w*|(?:Jahre|Monate|Wochen) lang)\b",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    "^(?:zurück|zusammen|entgegen|vorbei|weiter|wieder|nieder|davon|empor|fest|fort|hoch|heim|teil|"
    "(?:her|hin)?(?:ab|an|auf|aus|durch|ein|über|um|unter|vor|zu)|her|hin|bei|los|mit|nach|weg|"
    "be|ent|er|ver|zer)"
)
_FORMS = Path(__file__).with_name("data") / "verb_forms.txt"
_UNCLEAR = frozenset("sollte sollten wollte wollten".split())  # as often a wish or a duty as a past


class TensedVerb(NamedTuple):
    """A finite verb that is surely of one tense."""

    word: Word
    tense: Tense


def tense(subject: Subject) -> Finding | None:
    """The share of the preterite lies in the form's band, and no stretch leaves the main tense."""
    verbs = tensed_verbs(subject.text)
    if len(verbs) < _LEAST_VERBS:
        return None
    band = subject.bands.preterite
    past = sum(verb.tense == "preterite" for verb in verbs) / len(verbs)
    limit = f"{band[0]:.0%} to {band[1]:.0%} of the verbs in the preterite, no switch"
    if not within(past, band):
        wanted: Tense = "present" if past > band[1] else "preterite"
        wrong = [verb.word for verb in verbs if verb.tense != wanted]
        message = (
            f"{len(wrong)} of {len(verbs)} verbs are not in the {wanted}, "
            f"the tense of the form '{subject.form}': {quoted([word.form for word in wrong])}."
        )
        return failed("tense", past, limit, message, [word.span for word in wrong])
    switched = _switch(subject.text, verbs, "preterite" if past > _HALF else "present")
    if switched:
        message = (
            f"The tense switches from „{switched[0].word.form}“ to „{switched[-1].word.form}“ "
            "without a word that says when: keep to one."
        )
        return failed("tense", past, limit, message, [verb.word.span for verb in switched])
    return passed("tense", past, limit, f"{past:.0%} of the verbs stand in the preterite.")


def _switch(text: Text, verbs: Sequence[TensedVerb], main: Tense) -> list[TensedVerb]:
    """Return the verbs of the first stretch that leaves the main tense, unless it has a reason.

    A lead-in may look back, and so may a stretch whose first sentence says when that was.
    """
    least_sentences, least_verbs = _STRETCH[main]
    sentences = [list(own) for _, own in groupby(verbs, key=lambda verb: verb.word.sentence)]
    for leaves, group in groupby(sentences, key=lambda own: all(verb.tense != main for verb in own)):
        stretch = list(group)
        if not leaves or len(stretch) < least_sentences:
            continue
        first = stretch[0][0].word.sentence
        has_reason = main == "present" and (first == 0 or _LOOKS_BACK.search(text.sentences[first].text))
        found = [verb for own in stretch for verb in own]
        if len(found) >= least_verbs and not has_reason:
            return found
    return []


def preterite_share(text: Text) -> float:
    """Return the preterite's share of the narration's verbs of a sure tense, 0 to 1; 0 without any."""
    verbs = tensed_verbs(text)
    return sum(verb.tense == "preterite" for verb in verbs) / len(verbs) if verbs else 0.0


def tensed_verbs(text: Text) -> list[TensedVerb]:
    """Return the finite verbs of the narration whose indicative is of one tense alone."""
    return [
        TensedVerb(word, found)
        for place, (word, tag) in enumerate(zip(text.words, text.tags, strict=True))
        if tag.endswith("(FIN)")
        and not word.quoted
        and (word.form[0].islower() or text.sentences[word.sentence].first == place)
        and (found := tense_of(word.lower)) is not None
    ]


def tense_of(verb: str) -> Tense | None:
    """Return the tense of a finite verb in the third person; None for a subjunctive or an ambiguous form."""
    if verb in _UNCLEAR:
        return None
    known = _known_forms()
    return known.get(verb) or known.get(_PREFIX.sub("", verb, count=1))


@cache
def _known_forms() -> Mapping[str, Tense]:
    """Return the third persons of 3,400 verbs with their tense, where it is one alone."""
    listed = _FORMS.read_text(encoding="utf-8").partition("[present]\n")[2]
    present, _, preterite = listed.partition("[preterite]\n")
    forms: dict[str, Tense] = dict.fromkeys(present.split(), "present")
    return forms | dict.fromkeys(preterite.split(), "preterite")
