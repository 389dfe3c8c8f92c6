"""Checks of the language: its words, spelling, agreement and person, and stock phrases."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

from synopsis_writer.gate import lexicon
from synopsis_writer.gate.cast import is_calling
from synopsis_writer.gate.finding import Finding, Subject, judged, say, shortened
from synopsis_writer.gate.fixes import SHARP_S, Fix
from synopsis_writer.gate.lexicon import GERMAN_WORDS, commonness, is_known, own_words, pattern, word_lists
from synopsis_writer.gate.sources import name_forms
from synopsis_writer.gate.text import DETERMINERS, NAME, NOUN, Sentence, Span, Text, Word

GERMAN = 0.98  # probability from which on a text is German
# A longer text with that share of German function words needs no classifier: foreign ones have up to 7 %.
_LONG, _SURELY_GERMAN = 100, 0.25  # words, and share
FOREIGN = 0.9  # probability from which on a sentence is of another language
_MOST_CLASSIFIED = 200  # sentences; a longer text is refused for its length anyway
_SHORTEST_CLASSIFIED = 4  # words; shorter sentences are names and cries
_MIXED_WORDS = 3  # English words outside quotations from which on a sentence is a mixture
_ENGLISH = 4.0  # Zipf frequency in English from which on a word is common there
_ENGLISH_MARGIN = 1.5  # how much commoner it must be there than in German: thirty times
_GERMAN_WORD_SHARE = 0.1  # below it a sentence may be foreign although it holds a German word


def language(subject: Subject) -> Finding:
    """The text is German, and so is every sentence of four words or more."""
    words, counts = len(subject.text.words), subject.text.counts
    name, german = "de", 1.0
    if words < _LONG or sum(counts[word] for word in GERMAN_WORDS) < _SURELY_GERMAN * words:
        name, probability = lexicon.classify(subject.text.raw)
        german = probability if name == "de" else 1 - probability
    sentences = subject.text.sentences[:_MOST_CLASSIFIED]
    foreign = [sentence for sentence in sentences if _is_foreign(subject.text, sentence)]
    problem = None
    if german < GERMAN:
        problem = say("language", other=say("mixed") if name == "de" else f"'{name}'")
    elif foreign:
        problem = say("foreign sentences", n=len(foreign), words=[shortened(foreign[0].text)])
    limit = say("limit language", least=GERMAN)
    return judged("language", german, limit, problem, [sentence.span for sentence in foreign])


def _is_foreign(text: Text, sentence: Sentence) -> bool:
    words = text.words_of(sentence)
    if len(words) < _SHORTEST_CLASSIFIED:
        return False
    distinct = {word.lower for word in words}
    if len(distinct & GERMAN_WORDS) / len(distinct) < _GERMAN_WORD_SHARE:
        name, probability = lexicon.classify(sentence.text)
        if name != "de" and probability >= FOREIGN:
            return True
    return sum(not word.quoted and is_english(word.lower) for word in words) >= _MIXED_WORDS


@lru_cache(maxsize=100_000)
def is_english(word: str) -> bool:
    """Whether a lower-case word is far more English than German."""
    common = lexicon.frequency(word, "en") if len(word) <= lexicon.LONGEST_WORD else 0
    return common >= _ENGLISH and common >= commonness(word) + _ENGLISH_MARGIN


# A pronoun that stands as a noun: das neue Wir, beim Du, vom Sie, die Mir.
_PRONOUNS = own_words("like pronouns")
_ADJECTIVE_END = re.compile(r"\w{3}(?:es|e|en|er)$")


def person(subject: Subject) -> Finding:
    """Outside quotations the text is told in the third person; the show's own name does not count."""
    text = subject.text
    own = "|".join(map(re.escape, sorted((subject.show.name, *subject.show.aliases), key=len, reverse=True)))
    names = text.find(re.compile(own)) + text.find(pattern("idioms with pronouns"))
    pronouns = [index for index, word in enumerate(text.words) if word.lower in _PRONOUNS]
    names += [text.words[index].span for index in pronouns if _is_no_pronoun(text, index)]
    forms = set(filter(pattern("first or second person").fullmatch, text.counts))
    spoken = [word.span for word in text.words if word.lower in forms]
    spoken += text.find(pattern("address to the reader"))
    spans = sorted(span for span in spoken if not text.is_quoted(span.start))
    spans = [span for span in spans if not any(name.contains(span.start) for name in names)]
    problem = say("person", words=[text.raw[start:end] for start, end in spans]) if spans else None
    return judged("person", len(spans), say("limit person"), problem, spans)


def _is_no_pronoun(text: Text, index: int) -> bool:
    """Whether a word like a pronoun is a noun (`das Du`) or part of a name (`Mirja du Bois`)."""
    word, before = text.words[index], text.words[index - 1]
    if index <= text.sentences[word.sentence].first or text.raw[before.span.end : word.span.start] != " ":
        return False
    if word.form == "du" and before.form[0].isupper():
        return any(after.form[0].isupper() for after in text.words[index + 1 : index + 2])
    if word.form in {"Ich", "Mir", "Mich", "Wir", "Uns"}:
        return True  # within a sentence the pronoun has no capital
    if word.form[0].islower():
        return False
    earlier = text.words[index - 2] if index > 1 else before
    if before.lower in {"und", "oder", "statt"}:  # vom Du und Sie, but not: er weiß und Sie ahnen
        is_name = earlier.form[0].isupper() and index - 2 > text.sentences[word.sentence].first
        return is_name and earlier.lower in {*_PRONOUNS, "er", "es"}
    first = earlier if _ADJECTIVE_END.search(before.lower) else before  # das vertraute Du
    is_relative = text.raw[: first.span.start].endswith(", ")  # das Haus, das Sie kennen
    return pattern("before a noun").fullmatch(first.lower) is not None and not is_relative


_SPELT_OUT = re.compile(r"ae|oe|ue")
_UMLAUTS = {"ae": "ä", "oe": "ö", "ue": "ü"}

_KNOWN = 2.5  # Zipf frequency of a word that is surely meant
_MARGIN = 1.0  # how much commoner the word with the umlaut must be: ten times


def umlauts(subject: Subject) -> Finding:
    """Umlauts and ß are real: not spelt out, except in names, and not broken by a wrong encoding."""
    limit = say("limit umlauts")
    if broken := subject.text.find(pattern("wrong encoding")):
        return judged("umlauts", len(broken), limit, say("wrong encoding"), broken)
    names = name_forms(subject.known_names) | subject.text.names
    is_swiss = subject.house.orthography == "de-CH"
    forms = {form for form in subject.text.counts if form not in names}
    sharp = [word for word in subject.text.words if is_swiss and "ß" in word.lower and word.lower in forms]
    spelt_out = {form for form in forms if _is_spelt_out(form, is_swiss=is_swiss)}
    wrong = sharp or [word for word in subject.text.words if word.lower in spelt_out]
    problem = say("sharp s" if sharp else "umlauts", words=[word.form for word in wrong]) if wrong else None
    fixable = [word for word in sharp if (subject.raw or subject.text.raw)[slice(*word.span)] == word.form]
    fixes = [Fix(word.span, word.form.replace("ß", "ss"), SHARP_S) for word in fixable]
    limit = say("limit sharp s") if sharp else limit
    return judged("umlauts", len(wrong), limit, problem, [word.span for word in wrong], fixes=fixes)


def lacks_sharp_s(word: str) -> bool:
    """Whether a lower-case word has ss for a ß that only Swiss goes without; not so Masse and Busse."""
    return pattern("ss for sharp s").search(word) is not None


@lru_cache(maxsize=50_000)
def _is_spelt_out(word: str, *, is_swiss: bool = False) -> bool:
    if not is_swiss and lacks_sharp_s(word):
        return True
    if not _SPELT_OUT.search(word) or len(word) > lexicon.LONGEST_WORD:
        return False
    matches = _SPELT_OUT.finditer(word)
    meant = [word[: match.start()] + _UMLAUTS[match[0]] + word[match.end() :] for match in matches]
    meant.append(_SPELT_OUT.sub(lambda match: _UMLAUTS[match[0]], word))
    return any(commonness(other) >= max(_KNOWN, commonness(word) + _MARGIN) for other in meant)


# Distinct unknown words for each running word. The 61 good texts have at most 0.7 %, half of them
# none; the same texts with a typing error in every twentieth word have 2.5 % in the middle.
UNKNOWN_SHARE = 0.012
_FEWEST_UNKNOWN = 2  # one unknown word is no proof, nor are two with capitals, which may be names
_is_old = lru_cache(maxsize=50_000)(lambda word: pattern("old spelling").fullmatch(word))
_HYPHEN = re.compile(r"[-’'‐‑]")


def spelling(subject: Subject) -> Finding:
    """Few words are unknown: distinct ones for each running word, names aside; no spelling before 1996."""
    words = subject.text.words
    given = subject.given_words | subject.text.names | _unlisted_names(subject.text)
    forms = {  # of a hyphenated word each part counts
        form
        for form in subject.text.counts
        if form not in given and not all(part in given or is_known(part) for part in _HYPHEN.split(form))
    }
    share = len(forms) / max(1, len(words))
    old_forms = set(filter(_is_old, subject.text.counts)) - given
    old = [word for word in words if word.lower in old_forms and not word.quoted]  # but a title may be
    unknown = [word for word in words if word.lower in forms]
    is_much = share > UNKNOWN_SHARE and len(forms) >= _FEWEST_UNKNOWN + all(word.form[0].isupper() for word in unknown)
    wrong = old or unknown * is_much
    key = "old spelling" if old else "spelling"
    problem = say(key, share=share, words=[word.form for word in wrong]) if wrong else None
    return judged("spelling", share, say("limit spelling", most=UNKNOWN_SHARE), problem, [word.span for word in wrong])


def _unlisted_names(text: Text) -> frozenset[str]:
    """Return words that no list knows, if the text has them twice, or behind a name, a calling or another such."""
    written = Counter(word.lower.removesuffix("s") for word in text.words if word.form[0].isupper())
    names: set[str] = set()
    for index, word in enumerate(text.words):
        if not word.form[0].isupper() or is_known(word.lower):
            continue
        base, before = word.lower.removesuffix("s"), text.words[index - 1]
        if written[base] > 1:
            names.add(base)
        if index and before.form[0].isupper() and text.raw[before.span.end : word.span.start] == " ":
            is_name = text.tags[index] == NAME and (text.tags[index - 1] == NAME or is_calling(before.lower))
            if is_name or not is_known(before.lower):  # Aline Rochat, Kapitänin Nomvula; Yonas Tesfay
                names |= {before.lower, base}
    return frozenset(names | {name + "s" for name in names})


def unknown_words(text: Text) -> frozenset[str]:
    """Return the words that no list knows, as they are written; of a hyphenated word its unknown parts."""
    parts = {part for word in text.words for part in _HYPHEN.split(word.form)}
    return frozenset(part for part in parts if not is_known(part.lower()))


MOST_WRONG = 2  # pairs; the rule errs about once in twenty texts
_ADJECTIVE = "ADJ(A)"
_MOST_ADJECTIVES = 2
_ENDINGS = {"der": "er", "die": "e", "das": "es", "dem": "em", "den": "en", "des": "s"}
_RELATIVE = frozenset(_ENDINGS) - {"des"}
_MERGED = dict(pair.split("=") for pair in own_words("merged articles"))

# The endings a word like `der` and a word like `ein` may have before a noun in its base form.
_STRONG: Mapping[lexicon.Gender, Sequence[str]] = {"m": ("er", "en", "em"), "f": ("e", "er"), "n": ("es", "em")}
_MIXED: Mapping[lexicon.Gender, Sequence[str]] = {"m": ("", "en", "em"), "f": ("e", "er"), "n": ("", "em")}
_SAME_IN_PLURAL = ("er", "el", "en", "chen", "lein")  # der Fahrer, die Fahrer
_ONE_PHRASE = re.compile(r"(?:[^\W\d_]|[ -])*")


def agreement(subject: Subject) -> Finding:
    """Fewer than three articles or pronouns are of another gender or case than their noun."""
    wrong = list(mismatches(subject.text))
    words = [f"{determiner.form} … {noun.form}" for determiner, noun in wrong]
    problem = say("agreement", n=len(wrong), words=words) if len(wrong) > MOST_WRONG else None
    spans = [Span(determiner.span.start, noun.span.end) for determiner, noun in wrong]
    return judged("agreement", len(wrong), say("limit agreement", most=MOST_WRONG), problem, spans)


def mismatches(text: Text) -> Iterator[tuple[Word, Word]]:
    """Yield each determiner that fits neither its noun, at most two adjectives on, nor its preposition."""
    words, tags = text.words, text.tags
    for index, (word, tag) in enumerate(zip(words, tags, strict=True)):
        before = words[index - 1].lower if index > text.sentences[word.sentence].first else ""
        if tag not in DETERMINERS or before in _ENDINGS:
            continue  # `das eine Wort`
        start = word.span.start
        if word.lower in _RELATIVE and "," in text.raw[max(0, start - 2) : start]:
            continue  # after a comma it may begin a clause rather than a phrase
        noun = index + 1
        while noun <= index + _MOST_ADJECTIVES and noun < len(words) and tags[noun] == _ADJECTIVE:
            noun += 1
        if noun == len(words) or tags[noun] != NOUN or not words[noun].form[0].isupper():
            continue
        if not _ONE_PHRASE.fullmatch(text.raw, word.span.end, words[noun].span.start):
            continue
        is_wrong_case = pattern("article of another case").fullmatch(f"{before} {word.lower}")
        if is_wrong_case or not agrees(word.lower, words[noun].lower):
            yield word, words[noun]


def agrees(determiner: str, noun: str) -> bool:
    """Whether a determiner can be before a noun, both in lower case; True where the rule cannot tell."""
    kind = lexicon.gender(noun)
    if kind is None or determiner == "ihr" or (determiner, noun) == ("ein", "uhr"):
        return True  # `gab ihr Kraft`; `um ein Uhr`
    like_ein = pattern("article like ein").fullmatch(determiner)
    match = like_ein or pattern("article like der").fullmatch(determiner)
    ending = match[1] if match else _ENDINGS.get(determiner) or _MERGED.get(determiner)
    if ending is None or ending in (_MIXED if like_ein else _STRONG)[kind]:
        return True
    if kind == "f":
        return False
    if ending in {"s", "es"}:  # `des Verlusts` shows its ending, `des Kreuz` might not
        return noun.endswith(("s", "z", "x", "ß"))
    if determiner.startswith("ein") or determiner in _MERGED or not noun.endswith(_SAME_IN_PLURAL):
        return False
    # maybe a plural without an ending of its own: die Fahrer, den Becken
    return ending in {"e", "er"} or (ending == "en" and noun.endswith("n"))


_BEFORE, _BEHIND = 12, 7  # words between a phrase and its verb: `stellt …`, and `… gestellt hat`
_PARTICLE = 12  # words between the two parts of a separated verb: `holt sie an diesem Morgen ein`
_GAP = 3  # words that `…` stands for, at most
_CASES = ("", "e", "en", "em", "er", "es", "s", "n", "ste", "sten", "ster")
_UNSTRESSED = ("be", "er", "ver", "zer", "ent", "emp", "über", "umsp", "eskal")  # without ge- as participles
_WORD_LISTS = frozenset({"verbs", "ABSTRACT", "DET"})  # headings of words, not of patterns


class Phrase(NamedTuple):
    """A phrase in a text: where, what to write instead, in German, and the pattern that it fits."""

    span: Span
    way_out: str
    pattern: str


@dataclass(frozen=True)
class _Pattern:
    source: str
    regex: str
    way_out: str
    is_raw: bool = False  # whether it is for the sentence itself; else for its words in lower case
    from_second: bool = False  # whether it counts only from the second in a text on
    anchors: frozenset[str] = frozenset()  # one of these words stands in it, if there are any
    verbs: frozenset[str] = frozenset()  # of a verb before or behind it, of one with a particle in one word
    parted: frozenset[str] = frozenset()  # forms of one whose particle is a word of its own
    particle: str = ""

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """What it is compiled to, when a text has one of its anchors."""
        return re.compile(self.regex)

    def find(self, text: Text, sentence: Sentence) -> Iterator[Span]:
        """Yield where a sentence has it."""
        if self.is_raw:
            for match in self.expression.finditer(sentence.text):
                yield Span(sentence.span.start + match.start(), sentence.span.start + match.end())
            return
        tokens = text.words_of(sentence)
        words = [word.lower for word in tokens]
        line = f" {' '.join(words)} {'? ' if sentence.is_question else ''}"
        for match in self.expression.finditer(line):
            start = line.count(" ", 0, match.start() + 1) - 1
            end = min(start + len(match[0].split()), len(words))  # a question mark is no word
            if (verb := self._verb(words, start, end)) is not None:
                first, last = min(start, verb), max(end - 1, verb)
                yield Span(tokens[first].span.start, tokens[last].span.end)

    def _verb(self, words: Sequence[str], start: int, end: int) -> int | None:
        """Return the index of the verb nearest to the words from `start` to `end`; `start` if it has none."""
        if not self.verbs:
            return start
        before = range(start - 1, max(-1, start - _BEFORE - 1), -1)
        near = [*before, *range(start, min(len(words), end + _BEHIND))]
        verbs = [index for index in near if words[index] in self.verbs]
        if self.parted:  # the particle is behind the verb
            parted = [index for index in near if words[index] in self.parted]
            verbs += [index for index in parted if self.particle in words[max(end, index + 1) :][:_PARTICLE]]
        return min(verbs, key=near.index, default=None)


def floskel(subject: Subject) -> Finding:
    """The text has no more stock phrases than its house allows."""
    raw, most = subject.text.raw, int(subject.form.phrases[1])
    found = stock_phrases(subject.text)
    named = {" ".join(raw[slice(*phrase.span)].split()): phrase.way_out for phrase in found}
    words = ", ".join(f"„{words}“ ({way_out.rstrip('.')})" for words, way_out in named.items())
    problem = say("floskel", n=len(found), words=words) if len(found) > most else None
    limit = say("limit floskel" if most else "limit no floskel", most=most)
    return judged("floskel", len(found), limit, problem, [phrase.span for phrase in found])


def stock_phrases(text: Text) -> list[Phrase]:
    """Return the stock phrases of a text in order; of two that overlap the longer one."""
    found: list[Phrase] = []
    seen: set[int] = set()
    patterns, anchored = _patterns()
    for sentence in text.sentences:
        words = {"", *(word.lower for word in text.words_of(sentence))}
        for number in sorted({number for word in words for number in anchored.get(word, ())}):
            pattern = patterns[number]
            for span in pattern.find(text, sentence):
                if not pattern.from_second or number in seen:
                    found.append(Phrase(span, pattern.way_out, pattern.source))
                seen.add(number)
    chosen: list[Phrase] = []
    for phrase in sorted(found, key=lambda phrase: (phrase.span.start - phrase.span.end, phrase.span.start)):
        start, end = phrase.span
        if all(end <= other.span.start or other.span.end <= start for other in chosen):
            chosen.append(phrase)
    return sorted(chosen)


@cache
def _patterns() -> tuple[Sequence[_Pattern], Mapping[str, Sequence[int]]]:
    """Return the patterns, and their numbers by the words that they need; below "" those that need none."""
    lists = word_lists("floskeln")
    lines = (line for kind, lines in lists.items() if kind not in _WORD_LISTS for line in lines)
    patterns = [_compiled(*line.split(" | ")[:2]) for line in lines]
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, each in enumerate(patterns):
        for word in each.anchors or {""}:
            numbers[word].append(number)
    return patterns, numbers


def _compiled(source: str, way_out: str) -> _Pattern:
    plain = source.removeprefix("2× ")
    from_second = plain != source
    if plain.startswith("/"):
        return _Pattern(source, plain.strip("/"), way_out, True, from_second)
    verbs: frozenset[str] = frozenset()
    parted = anchors = verbs
    particle = ""
    pieces: list[str] = []
    for part in plain.split():
        if part.startswith("@"):
            for verb in part[1:].split("/"):
                head, _, base = verb.rpartition("|")
                forms = _forms(base)
                verbs |= {head + form for form in {*forms, f"zu{base}"}} if head else forms
                parted, particle = (forms, head) if head else (parted, particle)
        elif part == "?":
            pieces.append(r"\?\s")
        elif part == "^":
            pieces.append("^\\s")
        elif part.startswith("…"):
            pieces.append(rf"(?:\S+\s){{0,{part[1:] or _GAP}}}?")
        elif part == "_":
            pieces.append(r"\w\S*\s")
        else:
            words = frozenset().union(*map(_words, part.removesuffix("?").split("/")))
            any_of = "|".join(map(re.escape, sorted(words)))
            pieces.append(rf"(?:(?:{any_of})\s){'?' if part.endswith('?') else ''}")
            if not part.endswith("?") and min(map(len, words)) > min(map(len, anchors), default=0):
                anchors = words
    regex = "".join(pieces)
    regex = regex if regex.startswith("^") else rf"(?<=\s){regex}"
    return _Pattern(source, regex, way_out, False, from_second, anchors, verbs, parted, particle)


def _words(source: str) -> frozenset[str]:
    if source in _WORD_LISTS:
        return frozenset(word for line in word_lists("floskeln")[source] for word in line.split())
    if source.startswith("<"):
        return _forms(source.strip("<>"))
    if source.endswith("*"):
        return frozenset(source[:-1] + ending for ending in _CASES)
    return frozenset([source])


@cache
def _strong_verbs() -> Mapping[str, Sequence[str]]:
    return {line.split()[0]: line.split()[1:] for line in word_lists("floskeln")["verbs"]}


def _forms(verb: str) -> frozenset[str]:
    """Return the forms of a verb without a particle: regular ones unless the list has others."""
    stem = re.sub("e?n$", "", verb)
    if (forms := _strong_verbs().get(verb)) is not None:
        plural = f"{forms[1].removesuffix('e')}en"
        return frozenset({verb, f"{stem}e", plural, *forms})
    linked = f"{stem}e" if stem.endswith(("t", "d", "fn", "gn", "chn")) else stem
    participle = f"{linked}t" if verb.startswith(_UNSTRESSED) else f"ge{linked}t"
    return frozenset((verb, f"{stem}e", participle, *(linked + end for end in ("t", "te", "ten", "st"))))
