"""Checks of what does not belong into prose: markup, and talk about the text itself."""

import re

from synopsis_writer.gate.cast import occupation
from synopsis_writer.gate.copies import name_forms
from synopsis_writer.gate.finding import Finding, Subject, judged
from synopsis_writer.gate.fixes import counted, listed
from synopsis_writer.gate.lexicon import own_words, pattern, word_lists
from synopsis_writer.gate.messages import say, shortened
from synopsis_writer.gate.text import Sentence, Span, Text, lower_words

_MARKUP = "markup: "  # before a kind of markup in the headings of `gate/data/patterns.txt`


def markup(subject: Subject) -> Finding:
    """The text is plain prose: no lists, headings, tags, labels, symbols, links, or invisible characters.

    What code can put right and nothing refuses is a warning.
    """
    raw, marks = subject.text.raw, subject.house.quotation_marks
    kinds = {name.removeprefix(_MARKUP): name for name in word_lists("patterns") if name.startswith(_MARKUP)}
    kinds["other marks"] = f"marks other than {marks}"
    matches = [
        (kind, match) for kind, name in kinds.items() for match in pattern(name, re.MULTILINE).finditer(raw)
    ]
    names = name_forms(subject.known_names) | subject.text.names | own_words("first names")
    # "Fehlalarm: Im Keller …" is prose; "Bruno: Komm her." and "Arzt: „Nein.“" are lines of a script.
    labels = list(pattern("speaker label", re.MULTILINE).finditer(raw))
    for match in labels:
        label = lower_words(match[1])
        if len(labels) > 1 or not names.isdisjoint(label) or (match[2] and occupation(label[-1])):
            matches.append(("a speaker label", match))
    limit, fixes = say("none"), subject.fixes
    if matches:
        found = [say(kind, marks=" ".join(marks)) for kind in dict(matches)][:3]
        spans = [Span(*match.span()) for _, match in matches]
        return judged("markup", len(spans), limit, say("markup", kinds=found), spans, fixes=fixes)
    if not fixes:
        return judged("markup", 0, limit)
    problem, spans = say("to be put right", kinds=listed(counted(fixes))), [fix.span for fix in fixes]
    return judged("markup", len(fixes), limit, problem, spans, level="warning", fixes=fixes)


def meta_talk(subject: Subject) -> Finding:
    """The text speaks of its story, never of itself, its writer or its prompt."""
    text = subject.text
    meta = pattern("meta talk", re.IGNORECASE | re.MULTILINE)
    spans = [Span(*match.span()) for match in meta.finditer(text.raw)]
    spans += [sentence.span for sentence in text.sentences if _is_writers(text, sentence)]
    words = [shortened(text.raw[start:end].strip()) for start, end in spans]
    return judged(
        "meta_talk", len(spans), say("none"), say("meta_talk", words=words) if spans else None, spans
    )


def _is_writers(text: Text, sentence: Sentence) -> bool:
    """Whether somebody says "ich", "mir" or "Sie" outside quotations, and speaks of the task."""
    return pattern("task of a writer").search(sentence.text) is not None and any(
        not text.is_quoted(sentence.span.start + match.start())
        for match in pattern("first person of a writer").finditer(sentence.text)
    )
