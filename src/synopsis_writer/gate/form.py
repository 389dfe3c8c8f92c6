"""Checks of form: length, paragraphs, headline, rhythm, ending, dialogue, actors, hook, tense."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import Literal, NamedTuple

from synopsis_writer.gate.finding import Finding, Subject, exceeds, failed, passed, quoted, shortened
from synopsis_writer.gate.lexicon import pattern, word_lists
from synopsis_writer.gate.text import Sentence, Span, Text, Word, is_german, word_spans
from synopsis_writer.house.form import FEWEST_SENTENCES, can_encode, within


def length(subject: Subject) -> Finding:
    """The number of words, characters or bytes is within the brief's limits, or else the form's."""
    (limits, unit), encoding = subject.form.length, subject.form.encoding
    parts = [subject.text.raw, *([subject.title] if subject.form.title_counts else [])]
    limit = f"{limits[0]:g} to {limits[1]:g} {unit}"
    limit += f" in {encoding or 'utf-8'}" if unit == "bytes" else ""
    limit += ", the title included" if subject.form.title_counts else ""
    if foreign := [char for char in "".join(parts) if encoding and not can_encode(char, encoding)]:
        lacking = f"characters that {encoding} does not: {quoted(foreign)}"
        message = f"The text has {lacking}: write it without them."
        return failed("length", "".join(dict.fromkeys(foreign)), limit, message)
    if unit == "words":
        count = sum(len(word_spans(part)) for part in parts)
    elif unit == "characters":
        count = sum(count_characters(part) for part in parts)
    else:
        count = sum(len(_one_line(part).encode(encoding or "utf-8")) for part in parts)
    if within(count, limits):
        return passed("length", count, limit, f"The text has {count} {unit}.")
    way_out = "tell more" if count < limits[0] else "cut"
    return failed("length", count, limit, f"The text has {count} {unit}, {limit} are wanted: {way_out}.")


def count_characters(raw: str) -> int:
    """Return the number of NFC code points with blanks; a line or paragraph end counts as one blank."""
    return len(_one_line(raw))


def _one_line(raw: str) -> str:
    return " ".join(unicodedata.normalize("NFC", raw).split())


def paragraphs(subject: Subject) -> Finding:
    """The number of paragraphs is within the form's limits."""
    count, limits = len(subject.text.paragraphs), subject.form.paragraphs
    limit = f"{limits[0]:g} to {limits[1]:g} paragraphs"
    if within(count, limits):
        return passed("paragraphs", count, limit, f"The text has {count} paragraphs.")
    counted = "1 paragraph" if count == 1 else f"{count} paragraphs"
    message = f"The text has {counted}; the form {subject.form.name} wants {limit}: part it anew."
    return failed("paragraphs", count, limit, message)


def headline(subject: Subject) -> Finding | None:
    """A text whose form wants a headline has a title; `markup` refuses one where none is wanted."""
    if subject.form.headline != "yes":
        return None
    if subject.title:
        return passed("headline", subject.title, "a headline", "The text has a headline.")
    message = f"The form {subject.form.name} wants a headline: put a short line without a full stop first."
    return failed("headline", "none", "a headline", message)


def rhythm(subject: Subject) -> Finding:
    """Sentences are neither all short nor all long, and each can be read aloud."""
    text, limits = subject.text, subject.form
    longest = max(text.lengths, default=0)
    limit = (
        f"mean {limits.sentence_mean[0]:g} to {limits.sentence_mean[1]:g}, "
        f"deviation from {limits.sentence_deviation[0]:g}, longest {limits.sentence_longest[1]:g}"
    )
    value = f"mean {text.mean_length:.1f}, deviation {text.deviation:.1f}, longest {longest}"
    too_long = [sentence.span for sentence in text.sentences if sentence.length > limits.sentence_longest[1]]
    if too_long:
        message = f"A sentence has {longest} words, {limits.sentence_longest[1]:g} are the most: part it."
        return failed("rhythm", value, limit, message, too_long)
    if not within(text.mean_length, limits.sentence_mean):
        kind = "short" if text.mean_length < limits.sentence_mean[0] else "long"
        message = f"The sentences are too {kind}: {text.mean_length:.1f} words on average."
        return failed("rhythm", value, limit, message)
    if len(text.lengths) >= FEWEST_SENTENCES and not within(text.deviation, limits.sentence_deviation):
        finding = failed("rhythm", value, limit, "All sentences are of one length: mix short and long ones.")
        return replace(finding, level="warning")
    return passed("rhythm", value, limit, f"The sentences have {text.mean_length:.1f} words on average.")


_SENTENCE_END = re.compile(r"[.!?…][“”‘’\"«»‹›)]*$")
_VARIANT = re.compile(r"(?<![\w(])\w\)")  # a) or 1), which nothing opens
_PAIRS = (("„", "“”"), ("(", ")"), ("»", "«"))


def ending(subject: Subject) -> Finding:
    """The last sentence is whole, quotations are closed, and the answer is not truncated."""
    raw = _VARIANT.sub("", subject.text.raw).rstrip()
    limit = "a whole last sentence, quotations closed"
    last = [sentence.span for sentence in subject.text.sentences[-1:]]
    if subject.truncated:
        return failed("ending", "cut", limit, "The model stopped at its length limit: the text is cut.", last)
    if not _SENTENCE_END.search(raw):
        return failed("ending", raw[-20:], limit, "The last sentence is not whole: the text is cut.", last)
    for opening, closings in _PAIRS:
        opened = raw.count(opening)
        closed = sum(raw.count(closing) for closing in closings)
        if opened != closed and (opening != "„" or opened > closed or "”" not in raw):
            counts = f"{opened} × {opening} but {closed} × {closings[0]}"
            message = f"A quotation or bracket is not closed: {counts}."
            return failed("ending", f"{opened} to {closed}", limit, message)
    return passed("ending", "whole", limit, "The text ends with a whole sentence.")


_CAPITALS = re.compile(r"\b[A-ZÄÖÜẞ]{5,}\b(?!-)|\b[A-ZÄÖÜẞ]{3,}(?:[ ][A-ZÄÖÜẞ]{2,})+\b")


def exclamations(subject: Subject) -> Finding:
    """Few exclamation marks, and no words in capitals."""
    marks = [Span(*match.span()) for match in re.finditer(r"!", subject.text.raw)]
    most = subject.form.exclamations[1]
    limit = f"{most:g} exclamation marks, no capitals"
    if len(marks) > most:
        message = f"The text has {len(marks)} exclamation marks, {most:g} are the most."
        return failed("exclamations", len(marks), limit, message, marks)
    capitals = [match for match in _CAPITALS.finditer(subject.text.raw) if _shouts(match[0])]
    if capitals:
        message = f"Words in capitals shout: {quoted([match[0] for match in capitals])}."
        spans = [Span(*match.span()) for match in capitals]
        return failed("exclamations", len(capitals), limit, message, spans)
    return passed("exclamations", len(marks), limit, f"The text has {len(marks)} exclamation marks.")


def _shouts(capitals: str) -> bool:
    """Whether most of the words in capitals are German words: LKA NRW and UNESCO are none."""
    words = capitals.lower().split()
    return sum(map(is_german, words)) * 2 > len(words)


def dialogue(subject: Subject) -> Finding:
    """The share of spoken lines is within the form's limits; a quoted title or single word is not speech."""
    share = speech_share(subject.text, subject.title)
    least, most = subject.form.speech
    limit = (
        f"at most {most:.0%} of the characters"
        if not least
        else f"{least:.0%} to {most:.0%} of the characters"
    )
    measured = f"Spoken lines make up {share:.0%} of the text"
    if share < least:
        return failed("dialogue", share, limit, f"{measured}: let people speak more.")
    spoken = spoken_spans(subject.text, subject.title)
    lines = sum(max(1, len(_LINE_END.findall(subject.text.raw, *span))) for span in spoken)
    if share <= most or (most and lines < _LEAST_LINES):
        return passed("dialogue", share, limit, f"{measured}.")
    return failed("dialogue", share, limit, f"{measured}: tell, do not quote.", spoken)


_LEAST_LINES = 2  # spoken sentences; a single one is no habit
_LINE_END = re.compile(r"[.!?…]+")


def spoken_spans(text: Text, title: str) -> list[Span]:
    """Return the quotations that are speech; a title, a nickname or a single word is not."""
    return [span for span in text.quotes if _is_speech(text, span, title)]


def speech_share(text: Text, title: str) -> float:
    """Return the share of the characters inside speech, 0 to 1."""
    return sum(span.end - span.start for span in spoken_spans(text, title)) / max(1, len(text.raw))


_LONGEST_QUOTED_NAME = 3  # words; a nickname or a ship's name in quotation marks is not speech


def _is_speech(text: Text, span: Span, title: str) -> bool:
    inner = text.raw[span.start + 1 : span.end - 1]
    if inner.strip(" .,!?") == title.strip(" .,!?"):
        return False
    if inner.endswith((".", "!", "?", "…", ",")):
        return True
    borders = text.raw[: span.start].rstrip().endswith(":") or text.raw[span.end :].startswith(",")
    return borders and len(inner.split()) > _LONGEST_QUOTED_NAME  # else „Der Graf von Monte Christo“


_NAME = r"[^\W\d_a-zäöü][\w'’-]+\.?"
_ACTOR = re.compile(rf"(?<=[\w.]) \(({_NAME}(?: (?:[a-z]{{2,4}} ){{0,2}}{_NAME}){{1,3}})\)")


def find_actors(raw: str) -> list[re.Match[str]]:
    """Return names of two words or more in brackets behind another word; group 1 is the name."""
    return list(_ACTOR.finditer(raw))


def actors(subject: Subject) -> Finding | None:
    """The actors whom the brief names stand in brackets where the form wants them, or none do."""
    wanted, found = subject.form.actors_in_brackets, find_actors(subject.text.raw)
    if wanted == "no":
        if not found:
            return passed("actors", 0, "none in brackets", "No actors stand in brackets.")
        names = quoted([match[1] for match in found])
        message = f"Actors stand in brackets: {names}; the form {subject.form.name} leaves them out."
        return failed("actors", len(found), "none in brackets", message, [Span(*m.span()) for m in found])
    given = find_actors(" ".join(map(str, subject.brief.as_data().values()))) if subject.brief else []
    if wanted == "either" or not given:
        return None
    missing = [match[1] for match in given if match[1] not in {each[1] for each in found}]
    if not missing:
        return passed("actors", len(found), "the brief's in brackets", "The actors stand in brackets.")
    message = f"Actors of the brief are missing: put {quoted(missing)} in brackets behind their parts."
    return failed("actors", len(found), "the brief's in brackets", message)


_ENDS = {"question": "a question", "ellipsis": "an ellipsis", "closed": "no question", "any": "any sentence"}
_ELLIPSIS_END = re.compile(r"(?:…|\.\.\.)[“”‘’\"«»‹›)\s]*$")


def hook(subject: Subject) -> Finding:
    """The text ends as its form says, openly or closed, and questions stay the exception."""
    text, form = subject.text, subject.form
    asking = [sentence for sentence in text.sentences if sentence.is_question]
    most = form.questions[1]
    limit = f"{_ENDS[form.ending]} at the end, at most {most:.0%} questions"
    if exceeds(len(asking), len(text.sentences), most) or (asking and not most):
        message = f"{len(asking)} of {len(text.sentences)} sentences ask: that wears out."
        return failed("hook", text.question_share, limit, message, [sentence.span for sentence in asking])
    if text.question_share < form.questions[0]:
        message = f"{len(asking)} of {len(text.sentences)} sentences ask, too few: ask more."
        return failed("hook", text.question_share, limit, message)
    fifth = max(1, round(len(text.sentences) / 5))
    tail = text.sentences[-fifth:]
    trails_off = _ELLIPSIS_END.search(text.raw) is not None
    message = ""
    if form.ending == "question" and not any(sentence.is_question for sentence in tail):
        message = f"The form {form.name} ends open: put a question into the last sentences."
    elif form.ending == "ellipsis" and not trails_off:
        message = f"The form {form.name} ends open: let the last sentence trail off with „…“."
    elif (
        form.ending == "closed"
        and tail
        and tail[-1].is_question
        and not text.is_quoted(text.raw.rindex("?", *tail[-1].span))
    ):
        message = f"The form {form.name} ends closed: its last sentence must not ask."
    elif form.ending == "closed" and trails_off:
        message = f"The form {form.name} ends closed: its last sentence must not trail off."
    if message:
        return failed("hook", text.question_share, limit, message, [sentence.span for sentence in tail[-1:]])
    return passed("hook", text.question_share, limit, f"{text.question_share:.0%} of the sentences ask.")


Tense = Literal["present", "preterite"]
_LEAST_VERBS = 8  # fewer do not show a tense
_HALF = 0.5
_QUOTED_SENTENCE = 120  # characters

# Sentences and verbs from which on a passage in the other tense is a switch. A text in the present may
# look back for two sentences; one in the preterite states at most a single fact that still holds.
_PASSAGE: dict[Tense, tuple[int, int]] = {"present": (3, 4), "preterite": (2, 3)}

_AUXILIARY_OF_THE_PAST = frozenset({"war", "waren"})
_UNCLEAR = frozenset("sollte sollten wollte wollten".split())  # as often a wish or a duty as a past


class TensedVerb(NamedTuple):
    """A finite verb of a certain tense."""

    word: Word
    tense: Tense


def tense(subject: Subject) -> Finding | None:
    """The share of the preterite is within the form's limits, and no passage leaves the main tense."""
    verbs = tensed_verbs(subject.text)
    if len(verbs) < _LEAST_VERBS:
        return None
    low, high = subject.form.preterite
    count = sum(verb.tense == "preterite" for verb in verbs)
    past = count / len(verbs)
    limit = f"{low:.0%} to {high:.0%} of the verbs in the preterite, no switch"
    if (is_past := exceeds(count, len(verbs), high)) or exceeds(len(verbs) - count, len(verbs), 1 - low):
        wanted: Tense = "present" if is_past else "preterite"
        wrong = [verb.word for verb in verbs if verb.tense != wanted]
        message = (
            f"{len(wrong)} of {len(verbs)} verbs are not in the {wanted}, "
            f"the tense of the form '{subject.form.name}': {quoted([word.form for word in wrong])}."
        )
        return failed("tense", past, limit, message, [word.span for word in wrong])
    parts = [verbs]
    if low < _HALF < high:  # the form takes either tense, if a paragraph keeps to it
        by_paragraph = groupby(verbs, key=lambda verb: subject.text.sentences[verb.word.sentence].paragraph)
        parts = [list(part) for _, part in by_paragraph]
    for part in parts:
        main: Tense = "preterite" if _share(part, "preterite") > _HALF else "present"
        if switched := _switch(subject.text, part, main):
            first = switched[0].word
            sentence = shortened(subject.text.sentences[first.sentence].text, _QUOTED_SENTENCE)
            message = (
                f"The tense switches to the {switched[0].tense} with „{first.form}“, and no word says when: "
                f"„{sentence}“ Keep to the {main}."
            )
            return failed("tense", past, limit, message, [verb.word.span for verb in switched])
    return passed("tense", past, limit, f"{past:.0%} of the verbs stand in the preterite.")


def _switch(text: Text, verbs: Sequence[TensedVerb], main: Tense) -> list[TensedVerb]:
    """Return the verbs of the first passage that leaves the main tense, unless it has a reason.

    A lead-in may look back, and so may a passage that says when that was, anywhere or in the sentence before.
    """
    least_sentences, least_verbs = _PASSAGE[main]
    sentences = [list(group) for _, group in groupby(verbs, key=lambda verb: verb.word.sentence)]
    for leaves, group in groupby(sentences, key=lambda each: _share(each, main) < _HALF):
        passage = list(group)
        if not leaves or len(passage) < least_sentences:
            continue
        first, last = passage[0][0].word.sentence, passage[-1][0].word.sentence
        block = text.sentences[max(0, first - 1) : last + 1]
        has_reason = main == "present" and (first == 0 or any(_looks_back(text, one) for one in block))
        switched = [verb for sentence in passage for verb in sentence if verb.tense != main]
        if len(switched) >= least_verbs and not has_reason:
            return switched
    return []


def _looks_back(text: Text, sentence: Sentence) -> bool:
    """Whether a sentence has a word of time, or the Plusquamperfekt."""
    tags = text.tags[sentence.first : sentence.last]
    return pattern("looks back").search(sentence.text) is not None or (
        any(word.lower in _AUXILIARY_OF_THE_PAST for word in text.words_of(sentence))
        and any(tag.startswith("VV(PP") for tag in tags)
    )


def preterite_share(text: Text) -> float:
    """Return the preterite's share of the narration's verbs of a certain tense, 0 to 1; 0 without any."""
    return _share(tensed_verbs(text), "preterite")


def _share(verbs: Sequence[TensedVerb], tense: Tense) -> float:
    return sum(verb.tense == tense for verb in verbs) / len(verbs) if verbs else 0.0


def tensed_verbs(text: Text) -> list[TensedVerb]:
    """Return the finite verbs of the narration whose form belongs to one tense alone."""
    return [
        TensedVerb(word, tense)
        for index, (word, tag) in enumerate(zip(text.words, text.tags, strict=True))
        if tag.endswith("(FIN)")
        and not word.quoted
        and (word.form[0].islower() or text.sentences[word.sentence].first == index)
        and (tense := tense_of(word.lower)) is not None
    ]


def tense_of(verb: str) -> Tense | None:
    """Return the tense of a finite verb in the third person; None for a subjunctive or an ambiguous form."""
    if verb in _UNCLEAR:
        return None
    known = _known_forms()
    return known.get(verb) or known.get(pattern("prefix of a verb").sub("", verb, count=1))


@cache
def _known_forms() -> Mapping[str, Tense]:
    """Return the third persons of 3,400 verbs with their tense, where it is one alone."""
    lists = word_lists("verb_forms")
    forms: dict[str, Tense] = dict.fromkeys(lists["present"], "present")
    return forms | dict.fromkeys(lists["preterite"], "preterite")
