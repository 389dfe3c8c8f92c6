"""Checks of language: German, person, umlauts, spelling, agreement."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from synopsis_writer.gate.copies import name_forms
from synopsis_writer.gate.finding import Finding, Subject, failed, passed, quoted, shortened
from synopsis_writer.gate.fixes import SHARP_S, Fix
from synopsis_writer.gate.lexicon import (
    GERMAN_WORDS,
    LONGEST_WORD,
    Gender,
    classify,
    commonness,
    frequency,
    gender,
    is_known,
    pattern,
)
from synopsis_writer.gate.text import NOUN, Sentence, Span, Text, Word

GERMAN = 0.98  # probability from which on a text is German
FOREIGN = 0.9  # probability from which on a sentence is of another language
_MOST_CLASSIFIED = 200  # sentences; a longer text is refused for its length anyway
_SHORTEST_CLASSIFIED = 4  # words; shorter sentences are names and cries
_MIXED_WORDS = 3  # English words outside quotations from which on a sentence is a mixture
_ENGLISH = 4.0  # Zipf frequency in English from which on a word is common there
_ENGLISH_MARGIN = 1.5  # how much commoner it must be there than in German: thirty times
_GERMAN_WORD_SHARE = 0.1  # below it a sentence may be foreign although it holds a German word


def language(subject: Subject) -> Finding:
    """The text is German, and so is every sentence of four words or more."""
    limit = f"German ≥ {GERMAN:g}, no foreign sentence"
    name, probability = classify(subject.text.raw)
    german = probability if name == "de" else 1 - probability
    sentences = subject.text.sentences[:_MOST_CLASSIFIED]
    foreign = [sentence for sentence in sentences if _is_foreign(subject, sentence)]
    spans = [sentence.span for sentence in foreign]
    if german < GERMAN:
        seems = "mixed" if name == "de" else f"'{name}'"
        return failed("language", german, limit, f"The text does not read as German (but as {seems}).", spans)
    if foreign:
        message = f"Not German, {len(foreign)} times: {quoted([shortened(foreign[0].text)])}."
        return failed("language", german, limit, message, spans)
    return passed("language", german, limit, "The text is German.")


def _is_foreign(subject: Subject, sentence: Sentence) -> bool:
    if sentence.length < _SHORTEST_CLASSIFIED:
        return False
    words = subject.text.words_of(sentence)
    distinct = {word.lower for word in words}
    if len(distinct & GERMAN_WORDS) / len(distinct) < _GERMAN_WORD_SHARE:
        name, probability = classify(sentence.text)
        if name != "de" and probability >= FOREIGN:
            return True
    return sum(not word.quoted and is_english(word.lower) for word in words) >= _MIXED_WORDS


@lru_cache(maxsize=100_000)
def is_english(word: str) -> bool:
    """Whether a lower-case word is far more English than German."""
    return len(word) <= LONGEST_WORD and (
        frequency(word, "en") >= max(_ENGLISH, commonness(word) + _ENGLISH_MARGIN)
    )


# A pronoun that stands as a noun: das neue Wir, beim Du, vom Sie, die Mir.
_PRONOUNS = frozenset("ich mir mich mein wir uns unser du dir dein euch sie ihr ihnen".split())
_ADJECTIVE_END = re.compile(r"\w{3}(?:es|e|en|er)$")


def person(subject: Subject) -> Finding:
    """Outside quotations the text is told in the third person; the show's own name does not count."""
    text = subject.text
    names = [
        Span(*match.span())
        for name in (subject.show.name, *subject.show.aliases)
        for match in re.finditer(re.escape(name), text.raw)
    ]
    names += [Span(*match.span()) for match in pattern("idioms with pronouns").finditer(text.raw)]
    names += [
        word.span
        for index, word in enumerate(text.words)
        if word.lower in _PRONOUNS and _is_no_pronoun(text, index)
    ]
    spoken = [word.span for word in text.words if pattern("first or second person").fullmatch(word.lower)]
    spoken += [Span(*match.span()) for match in pattern("address to the reader").finditer(text.raw)]
    spans = [
        span
        for span in sorted(spoken)
        if not text.is_quoted(span.start) and not any(name.contains(span.start) for name in names)
    ]
    if not spans:
        return passed("person", 0, "third person", "The text is told in the third person.")
    message = f"The text leaves the third person: {quoted([text.raw[start:end] for start, end in spans])}."
    return failed("person", len(spans), "third person", message, spans)


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
        return earlier.lower in _PRONOUNS and earlier.form[0].isupper()
    first = earlier if _ADJECTIVE_END.search(before.lower) else before  # das vertraute Du
    is_relative = text.raw[: first.span.start].endswith(", ")  # das Haus, das Sie kennen
    return pattern("before a noun").fullmatch(first.lower) is not None and not is_relative


_SPELT_OUT = re.compile(r"ae|oe|ue")
_UMLAUTS = {"ae": "ä", "oe": "ö", "ue": "ü"}

_KNOWN = 2.5  # Zipf frequency of a word that is surely meant
_MARGIN = 1.0  # how much commoner the word with the umlaut must be: ten times


def umlauts(subject: Subject) -> Finding:
    """Umlauts and ß are real: not spelt out, except in names, and not broken by a wrong encoding."""
    broken = [Span(*match.span()) for match in pattern("wrong encoding").finditer(subject.text.raw)]
    if broken:
        message = "Letters are broken by a wrong encoding: save the text as UTF-8 and mend them."
        return failed("umlauts", len(broken), "none spelt out", message, broken)
    names = name_forms(subject.known_names) | subject.text.names
    is_swiss = subject.house.orthography == "de-CH"
    words = [word for word in subject.text.words if word.lower not in names]
    sharp = [word for word in words if is_swiss and "ß" in word.lower]
    if sharp:
        message = f"The house writes ss instead of ß: {quoted([word.form for word in sharp])}."
        finding = failed("umlauts", len(sharp), "ss, no ß", message, [word.span for word in sharp])
        fixes = tuple(Fix(word.span, word.form.replace("ß", "ss"), SHARP_S) for word in sharp)
        return replace(finding, fixes=fixes)
    spelt_out = [word for word in words if _is_spelt_out(word.lower, is_swiss=is_swiss)]
    if spelt_out:
        message = f"Umlauts are spelt out: {quoted([word.form for word in spelt_out])}."
        return failed("umlauts", len(spelt_out), "none spelt out", message, [word.span for word in spelt_out])
    return passed("umlauts", 0, "none spelt out", "Umlauts and ß are real.")


def lacks_sharp_s(word: str) -> bool:
    """Whether a lower-case word is spelt with ss where German has ß, and Swiss has not.

    The frequency list cannot tell, since it folds ß into ss. Stems that are words either way (Maße and Masse,
    Buße and Busse) do not count.
    """
    return pattern("ss for sharp s").search(word) is not None


def _is_spelt_out(word: str, *, is_swiss: bool = False) -> bool:
    if not is_swiss and lacks_sharp_s(word):
        return True
    if not _SPELT_OUT.search(word) or len(word) > LONGEST_WORD:
        return False
    matches = _SPELT_OUT.finditer(word)
    meant = [word[: match.start()] + _UMLAUTS[match[0]] + word[match.end() :] for match in matches]
    meant.append(_SPELT_OUT.sub(lambda match: _UMLAUTS[match[0]], word))
    return any(commonness(other) >= max(_KNOWN, commonness(word) + _MARGIN) for other in meant)


# Distinct unknown words for each running word. The 61 good texts have at most 0.7 %, half of them
# none; the same texts with a typing error in every twentieth word have 2.5 % in the middle.
UNKNOWN_SHARE = 0.012
_FEWEST_UNKNOWN = 2  # one unknown word is no proof
_HYPHEN = re.compile(r"[-’'‐‑]")


def spelling(subject: Subject) -> Finding:
    """Few words are unknown: distinct ones for each running word, names aside; no spelling before 1996."""
    given = subject.given_words | subject.text.names | _unlisted_names(subject.text)
    forms = {  # of a hyphenated word each part counts
        form
        for form in subject.text.counts
        if form not in given and not all(part in given or is_known(part) for part in _HYPHEN.split(form))
    }
    unknown = [word for word in subject.text.words if word.lower in forms]
    share = len(forms) / max(1, len(subject.text.words))
    limit = f"at most {UNKNOWN_SHARE:.1%} unknown words"
    old = [  # a title in quotation marks may be
        word
        for word in subject.text.words
        if pattern("old spelling").fullmatch(word.lower) and word.lower not in given and not word.quoted
    ]
    if old:
        message = f"Spelt as before 1996: {quoted([word.form for word in old])}."
        return failed("spelling", share, limit, message, [word.span for word in old])
    if share <= UNKNOWN_SHARE or len(forms) < _FEWEST_UNKNOWN:
        return passed("spelling", share, limit, f"{share:.1%} of the words are unknown.")
    message = f"{share:.1%} of the words are unknown: {quoted([word.form for word in unknown])}."
    return failed("spelling", share, limit, message, [word.span for word in unknown])


def _unlisted_names(text: Text) -> frozenset[str]:
    """Return capitalised words that no list knows, if the text has them twice, or two side by side."""
    written = [word for word in text.words if word.form[0].isupper() and not is_known(word.lower)]
    counts = Counter(word.lower.removesuffix("s") for word in written)
    names = {word for word, count in counts.items() if count > 1}
    for first, last in pairwise(written):
        if text.raw[first.span.end : last.span.start] == " ":  # Yonas Tesfay
            names |= {first.lower, last.lower.removesuffix("s")}
    return frozenset(names | {name + "s" for name in names})


def unknown_words(text: Text) -> frozenset[str]:
    """Return the words that no list knows, as they are written; of a hyphenated word its unknown parts."""
    parts = {part for word in text.words for part in _HYPHEN.split(word.form)}
    return frozenset(part for part in parts if not is_known(part.lower()))


MOST_WRONG = 2  # pairs; the rule errs about once in twenty texts
_DETERMINERS = frozenset(("ART", "PPOSAT", "PDAT", "PIAT", "APPRART"))
_ADJECTIVE = "ADJ(A)"
_MOST_ADJECTIVES = 2
_ENDINGS = {"der": "er", "die": "e", "das": "es", "dem": "em", "den": "en", "des": "s"}
_RELATIVE = frozenset(_ENDINGS) - {"des"}
_LIKE_DER = re.compile(r"(?:dies|jen|jed|welch|manch|solch)(er|en|em|es|e)")
_LIKE_EIN = re.compile(r"(?:ein|kein|mein|dein|sein|ihr|unser|unsr|euer|eur)(er|en|em|es|e|)")
_MERGED = (
    {"zur": "e"}
    | dict.fromkeys("im am vom zum beim".split(), "em")
    | dict.fromkeys("ins ans fürs".split(), "es")
)

# The endings a word like `der` and a word like `ein` may have before a noun in its base form.
_STRONG_ENDINGS: dict[Gender, frozenset[str]] = {
    "m": frozenset({"er", "en", "em"}),
    "f": frozenset({"e", "er"}),
    "n": frozenset({"es", "em"}),
}
_MIXED_ENDINGS: dict[Gender, frozenset[str]] = {
    "m": frozenset({"", "en", "em"}),
    "f": frozenset({"e", "er"}),
    "n": frozenset({"", "em"}),
}
_SAME_IN_PLURAL = re.compile(r"(?:er|el|en|chen|lein)$")  # der Fahrer, die Fahrer

# Articles that never follow a preposition of the dative, and of the accusative.
_WRONG_CASE = dict.fromkeys("bei mit von".split(), frozenset("die eine".split())) | dict.fromkeys(
    "durch für gegen".split(), frozenset("dem des einem eines einer".split())
)
_GENITIVE_AS_BASE = re.compile(r"[szxß]$")


class Pair(NamedTuple):
    """A determiner, the noun it belongs to, and the lower-case word before them."""

    before: str
    determiner: Word
    noun: Word

    @property
    def fits(self) -> bool:
        """Whether the determiner can be before the noun and after the preposition."""
        word = self.determiner.lower
        return word not in _WRONG_CASE.get(self.before, ()) and agrees(word, self.noun.lower)


def agreement(subject: Subject) -> Finding:
    """Fewer than three articles or pronouns are of another gender or case than their noun."""
    wrong = [pair for pair in pairs(subject.text) if not pair.fits]
    limit = f"at most {MOST_WRONG} wrong pairs"
    if len(wrong) <= MOST_WRONG:
        return passed("agreement", len(wrong), limit, f"{len(wrong)} articles do not fit their noun.")
    said = quoted([f"{pair.determiner.form} … {pair.noun.form}" for pair in wrong])
    message = f"{len(wrong)} articles do not fit their noun: {said}."
    spans = [Span(pair.determiner.span.start, pair.noun.span.end) for pair in wrong]
    return failed("agreement", len(wrong), limit, message, spans)


def pairs(text: Text) -> Iterator[Pair]:
    """Yield each determiner with the noun that follows it, at most two adjectives between them."""
    words, tags = text.words, text.tags
    for index, (word, tag) in enumerate(zip(words, tags, strict=True)):
        before = words[index - 1].lower if index > text.sentences[word.sentence].first else ""
        if tag not in _DETERMINERS or before in _ENDINGS:
            continue  # `das eine Wort`
        start = word.span.start
        if word.lower in _RELATIVE and "," in text.raw[max(0, start - 2) : start]:
            continue  # after a comma it may begin a clause rather than a phrase
        noun = index + 1
        while noun <= index + _MOST_ADJECTIVES and noun < len(words) and tags[noun] == _ADJECTIVE:
            noun += 1
        if noun < len(words) and tags[noun] == NOUN and _is_one_phrase(text, word, words[noun]):
            yield Pair(before, word, words[noun])


def _is_one_phrase(text: Text, first: Word, last: Word) -> bool:
    between = text.raw[first.span.end : last.span.start]
    return last.form[0].isupper() and all(char.isalpha() or char in " -" for char in between)


def agrees(determiner: str, noun: str) -> bool:
    """Whether a determiner can be before a noun, both in lower case; True where the rule cannot tell."""
    kind = gender(noun)
    if kind is None or determiner == "ihr" or (determiner, noun) == ("ein", "uhr"):
        return True  # `gab ihr Kraft`; `um ein Uhr`
    like_ein = _LIKE_EIN.fullmatch(determiner)
    match = like_ein or _LIKE_DER.fullmatch(determiner)
    ending = match[1] if match else _ENDINGS.get(determiner) or _MERGED.get(determiner)
    if ending is None or ending in (_MIXED_ENDINGS if like_ein else _STRONG_ENDINGS)[kind]:
        return True
    if kind == "f":
        return False
    if ending in {"s", "es"}:  # `des Verlusts` shows its ending, `des Kreuz` might not
        return _GENITIVE_AS_BASE.search(noun) is not None
    if determiner.startswith("ein") or determiner in _MERGED or not _SAME_IN_PLURAL.search(noun):
        return False
    # maybe a plural without an ending of its own: die Fahrer, den Becken
    return ending in {"e", "er"} or (ending == "en" and noun.endswith("n"))
