"""Checks of form: length, paragraphs, headline, rhythm, ending, markup, dialogue, actors, hook, tense."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from statistics import fmean
from typing import Literal, NamedTuple

from synopsis_writer.gate.cast import occupation
from synopsis_writer.gate.finding import Finding, Subject, exceeds, judged, say, shortened
from synopsis_writer.gate.fixes import composed_spans, counted, listed
from synopsis_writer.gate.lexicon import own_words, pattern, word_lists
from synopsis_writer.gate.sources import name_forms
from synopsis_writer.gate.text import Sentence, Span, Text, Word, is_german, lower_words, word_spans
from synopsis_writer.house import FEWEST_SENTENCES, can_encode, within

Tense = Literal["present", "preterite"]
_HALF = 0.5


class TensedVerb(NamedTuple):
    """A finite verb of a certain tense."""

    word: Word
    tense: Tense


def length(subject: Subject) -> Finding:
    """The number of words, characters or bytes is within the brief's limits, or else the form's."""
    form, encoding = subject.form, subject.form.encoding or "utf-8"
    limits, unit = form.length
    parts = [subject.text.raw, *([subject.title] if form.title_counts else [])]
    counted = say(unit)
    wanted = say("bytes in", encoding=encoding) if unit == "bytes" else counted
    key = "limit length with title" if form.title_counts else "limit length"
    limit = say(key, low=limits[0], high=limits[1], unit=wanted, counted=counted)
    foreign = dict.fromkeys(char for char in "".join(parts) if form.encoding and not can_encode(char, encoding))
    if foreign:
        problem = say("foreign characters", encoding=encoding, chars=list(foreign))
        return judged("length", "".join(foreign), limit, problem)
    count = sum(_size(part, unit, encoding) for part in parts)
    way_out = say("tell more" if count < limits[0] else "cut")
    problem = say("length", n=count, counted=counted, limit=limit, way=way_out)
    return judged("length", count, limit, None if within(count, limits) else problem)


def _size(raw: str, unit: str, encoding: str) -> int:
    line = " ".join(unicodedata.normalize("NFC", raw).split())
    return len(word_spans(raw) if unit == "words" else line if unit == "characters" else line.encode(encoding))


def count_characters(raw: str) -> int:
    """Return the number of NFC code points with blanks; a line or paragraph end counts as one blank."""
    return _size(raw, "characters", "")


def paragraphs(subject: Subject) -> Finding:
    """The number of paragraphs is within the form's limits."""
    count, limits = len(subject.text.paragraphs), subject.form.paragraphs
    limit = say("limit paragraphs", low=limits[0], high=limits[1])
    counted = say("1 paragraph" if count == 1 else "n paragraphs", n=count)
    problem = say("paragraphs", n=counted, form=subject.form.name, limit=limit)
    return judged("paragraphs", count, limit, None if within(count, limits) else problem)


def headline(subject: Subject) -> Finding | None:
    """A text whose form wants a headline has a title; `markup` refuses one where none is wanted."""
    if subject.form.headline != "yes":
        return None
    problem = None if subject.title else say("headline", form=subject.form.name)
    return judged("headline", subject.title or "none", say("limit headline"), problem)


def rhythm(subject: Subject) -> Finding:
    """Sentences are neither all short nor all long, and each can be read aloud."""
    text, form = subject.text, subject.form
    mean, deviation, longest = text.mean_length, text.deviation, max(text.lengths, default=0)
    (low, high), most = form.sentence_mean, form.sentence_longest[1]
    least = form.sentence_deviation[0]
    limit = say("limit rhythm", low=low, high=high, deviation=least, most=most, mean=mean)
    value = f"mean {mean:.1f}, deviation {deviation:.1f}, longest {longest}"
    if longest > most:
        too_long = [sentence.span for sentence in text.sentences if sentence.length > most]
        return judged("rhythm", value, limit, say("long sentence", longest=longest, most=most), too_long)
    if mean < low or (mean > high and len(text.lengths) > 1):  # of a single sentence its length says enough
        problem = say("short sentences" if mean < low else "long sentences", mean=mean)
        return judged("rhythm", value, limit, problem)
    if len(text.lengths) >= FEWEST_SENTENCES and not within(deviation, form.sentence_deviation):
        return judged("rhythm", value, limit, say("even sentences"), level="warning")
    return judged("rhythm", value, limit)


_PAIRS = (("„", "“”"), ("(", ")"), ("»", "«"))


def ending(subject: Subject) -> Finding:
    """The last sentence is whole, quotations are closed, and the answer is not truncated."""
    raw, limit = pattern("lettered variant").sub("", subject.text.raw).rstrip(), say("limit ending")
    last = [sentence.span for sentence in subject.text.sentences[-1:]]
    if subject.truncated:
        return judged("ending", "cut", limit, say("stopped"), last)
    if not pattern("end of a sentence").search(raw):
        return judged("ending", raw[-20:], limit, say("half a sentence"), last)
    for opening, closings in _PAIRS:
        opened, closed = raw.count(opening), sum(map(raw.count, closings))
        if opened != closed and (opening != "„" or opened > closed or "”" not in raw):
            counts = {"opened": opened, "opening": opening, "closed": closed, "closing": closings[0]}
            return judged("ending", f"{opened} to {closed}", limit, say("open quotation", **counts))
    return judged("ending", "whole", limit)


_MARKUP = "markup: "  # before a kind of markup in the headings of `gate/data/patterns.txt`


def markup(subject: Subject) -> Finding:
    """The text is plain prose: no lists, headings, tags, labels, symbols, links, or invisible characters."""
    raw, marks = subject.text.raw, subject.house.quotation_marks
    kinds = {name.removeprefix(_MARKUP): name for name in word_lists("patterns") if name.startswith(_MARKUP)}
    kinds["other marks"] = f"marks other than {marks}"
    spans = {kind: subject.text.find(pattern(name, re.MULTILINE)) for kind, name in kinds.items()}
    names = name_forms(subject.known_names) | subject.text.names | own_words("first names")
    # "Fehlalarm: Im Keller …" is prose; "Bruno: Komm her." and "Arzt: „Nein.“" are lines of a script.
    labels = list(pattern("speaker label", re.MULTILINE).finditer(raw))
    for match in labels:
        label = lower_words(match[1])
        if len(labels) > 1 or not names.isdisjoint(label) or (match[2] and occupation(label[-1])):
            spans["a speaker label"].append(Span(*match.span()))
    fixes, found = subject.fixes, [span for each in spans.values() for span in each]
    if found:
        problem = say("markup", kinds=[say(kind, marks=" ".join(marks)) for kind in spans if spans[kind]][:3])
        return judged("markup", len(found), say("none"), problem, found, fixes=fixes)
    if not fixes:
        return judged("markup", 0, say("none"))
    problem = say("to be put right", kinds=listed(counted(fixes)))
    found = composed_spans(subject.raw or raw, [fix.span for fix in fixes])
    return judged("markup", len(fixes), say("none"), problem, found, level="warning", fixes=fixes)


def meta_talk(subject: Subject) -> Finding:
    """The text speaks of its story, never of itself, its writer or its prompt."""
    text = subject.text
    spans = text.find(pattern("meta talk", re.IGNORECASE | re.MULTILINE))
    # Somebody says "ich", "mir" or "Sie" outside quotations, and speaks of the task.
    speakers = [start for start, _ in text.find(pattern("first person of a writer")) if not text.is_quoted(start)]
    spans += [
        sentence.span
        for sentence in text.sentences
        if any(map(sentence.span.contains, speakers)) and pattern("task of a writer").search(sentence.text)
    ]
    words = [shortened(text.raw[start:end].strip()) for start, end in spans]
    return judged("meta_talk", len(spans), say("none"), say("meta_talk", words=words) if spans else None, spans)


def exclamations(subject: Subject) -> Finding:
    """Few exclamation marks, and no words in capitals."""
    raw, most = subject.text.raw, subject.form.exclamations[1]
    marks = subject.text.find(re.compile("!"))
    limit = say("limit exclamations", most=most)
    if len(marks) > most:
        return judged("exclamations", len(marks), limit, say("exclamations", n=len(marks), most=most), marks)
    spans = subject.text.find(pattern("capitals"))
    words = {span: raw[slice(*span)] for span in spans}  # most are German: LKA NRW and UNESCO do not shout
    shouted = [span for span in spans if fmean(map(is_german, words[span].lower().split())) > _HALF]
    shouts = say("capitals", words=[words[span] for span in shouted]) if shouted else None
    return judged("exclamations", len(shouted or marks), limit, shouts, shouted)


_LEAST_LINES = 2  # spoken sentences; a single one is no habit
_LONGEST_QUOTED_NAME = 3  # words; a nickname or a ship's name in quotation marks is not speech


def dialogue(subject: Subject) -> Finding:
    """The share of spoken lines is within the form's limits; a quoted title or single word is not speech."""
    share, (low, high) = speech_share(subject.text, subject.title), subject.form.speech
    limit = say("limit dialogue" if low else "limit dialogue at most", low=low, high=high)
    if share < low:
        return judged("dialogue", share, limit, say("little speech", share=share))
    spoken = [span for span in subject.text.quotes if _is_speech(subject.text, span, subject.title)]
    parts = [subject.text.raw[start + 1 : end] for start, end in spoken]  # „Ich weiß“, sagt er, „dass es geht.“
    lines = sum(max(1, len(re.findall(r"[.!?…]+", part))) - part[0].islower() for part in parts)
    is_few = share <= high or (high and lines < _LEAST_LINES)
    return judged("dialogue", share, limit, None if is_few else say("much speech", share=share), spoken)


def speech_share(text: Text, title: str) -> float:
    """Return the share of the characters inside speech, 0 to 1."""
    spoken = (end - start for start, end in text.quotes if _is_speech(text, Span(start, end), title))
    return sum(spoken) / max(1, len(text.raw))


def _is_speech(text: Text, span: Span, title: str) -> bool:
    inner = text.raw[span.start + 1 : span.end - 1]
    if inner.strip(" .,!?") == title.strip(" .,!?"):
        return False
    if inner.endswith((".", "!", "?", "…", ",")):
        return True
    borders = text.raw[: span.start].rstrip().endswith(":") or text.raw[span.end :].startswith(",")
    return borders and len(inner.split()) > _LONGEST_QUOTED_NAME  # else „Der Graf von Monte Christo“


def find_actors(raw: str) -> list[re.Match[str]]:
    """Return names of two words or more in brackets behind another word; group 1 is the name."""
    return list(pattern("actor").finditer(raw))


def actors(subject: Subject) -> Finding | None:
    """The actors whom the brief names stand in brackets where the form wants them, or none do."""
    wanted = subject.form.actors_in_brackets
    found = [match[1] for match in find_actors(subject.text.raw)]
    if wanted == "no":
        problem = say("actors", words=found, form=subject.form.name) if found else None
        return judged("actors", len(found), say("limit actors"), problem, subject.text.find(pattern("actor")))
    given = find_actors(" ".join(map(str, subject.brief.as_data().values()))) if subject.brief else []
    if wanted == "either" or not given:
        return None
    missing = [match[1] for match in given if match[1] not in found]
    problem = say("missing actors", words=missing) if missing else None
    return judged("actors", len(found), say("limit missing actors"), problem, held=say("actors in brackets"))


def hook(subject: Subject) -> Finding:
    """The text ends as its form says, openly or closed, and questions stay the exception."""
    text, form = subject.text, subject.form
    asking = [sentence.span for sentence in text.sentences if sentence.is_question]
    (least, most), share = form.questions, text.question_share
    limit = say(f"limit {form.ending}", most=most)
    counts = {"n": len(asking), "all": len(text.sentences)}
    if exceeds(len(asking), len(text.sentences), most) or (asking and not most):
        return judged("hook", share, limit, say("many questions", **counts), asking)
    if share < least:
        return judged("hook", share, limit, say("few questions", **counts))
    tail = text.sentences[-max(1, round(len(text.sentences) / 5)) :]
    trails_off = pattern("ellipsis at the end").search(text.raw) is not None
    problems = {
        "question": ("no question", not any(sentence.is_question for sentence in tail)),
        "ellipsis": ("no ellipsis", not trails_off),
        "closed": ("last ellipsis", trails_off),
    }
    key, is_wrong = problems.get(form.ending, ("", False))
    asks = form.ending == "closed" and tail and tail[-1].is_question
    if asks and not text.is_quoted(text.raw.rindex("?", *tail[-1].span)):
        key, is_wrong = "last question", True
    last = [sentence.span for sentence in tail[-1:]]
    return judged("hook", share, limit, say(key, form=form.name) if is_wrong else None, last)


_LEAST_VERBS = 8  # fewer do not show a tense
_QUOTED_SENTENCE = 120  # characters

# Sentences and verbs from which on a passage in the other tense is a switch. A text in the present may
# look back for two sentences; one in the preterite states at most a single fact that still holds.
_PASSAGE: dict[Tense, tuple[int, int]] = {"present": (3, 4), "preterite": (2, 3)}

_AUXILIARY_OF_THE_PAST = frozenset({"war", "waren"})
_UNCLEAR = frozenset("sollte sollten wollte wollten".split())  # as often a wish or a duty as a past


def tense(subject: Subject) -> Finding | None:
    """The share of the preterite is within the form's limits, and no passage leaves the main tense."""
    verbs, sentences = tensed_verbs(subject.text), subject.text.sentences
    if len(verbs) < _LEAST_VERBS:
        return None
    low, high = subject.form.preterite
    count = sum(verb.tense == "preterite" for verb in verbs)
    past = count / len(verbs)
    limit = say("limit tense", low=low, high=high)
    if (is_past := exceeds(count, len(verbs), high)) or exceeds(len(verbs) - count, len(verbs), 1 - low):
        wanted: Tense = "present" if is_past else "preterite"
        wrong = [verb.word for verb in verbs if verb.tense != wanted]
        words = [word.form for word in wrong]
        counts = {"n": len(wrong), "all": len(verbs), "form": subject.form.name}
        problem = say("tense", tense=say(wanted), words=words, **counts)
        return judged("tense", past, limit, problem, [word.span for word in wrong])
    takes_either = low < _HALF < high  # if a paragraph keeps to it
    by_part = groupby(verbs, lambda verb: sentences[verb.word.sentence].paragraph if takes_either else 0)
    for part in [list(part) for _, part in by_part]:
        main: Tense = "preterite" if _share(part, "preterite") > _HALF else "present"
        if switched := _switch(subject.text, part, main):
            word, other = switched[0]
            sentence = shortened(sentences[word.sentence].text, _QUOTED_SENTENCE)
            passage = {"verb": word.form, "sentence": sentence, "tense": say(other), "main": say(main)}
            spans = [verb.word.span for verb in switched]
            return judged("tense", past, limit, say("tense switch", **passage), spans)
    return judged("tense", past, limit)


def _switch(text: Text, verbs: Sequence[TensedVerb], main: Tense) -> list[TensedVerb]:
    """Return the verbs of the first passage that leaves the main tense, unless it leads in or says when."""
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
