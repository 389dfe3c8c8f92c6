"""Checks of what does not belong into prose: markup, and talk about the text itself."""

import re

from synopsis_writer.gate.cast import occupation
from synopsis_writer.gate.copies import name_forms
from synopsis_writer.gate.finding import Finding, Subject, judged
from synopsis_writer.gate.fixes import counted, listed
from synopsis_writer.gate.lexicon import own_words, pattern, word_lists
from synopsis_writer.gate.messages import say, shortened
from synopsis_writer.gate.text import Span, lower_words

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
    found = [fix.span for fix in fixes]
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
    problem = say("meta_talk", words=words) if spans else None
    return judged("meta_talk", len(spans), say("none"), problem, spans)
