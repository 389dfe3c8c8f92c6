"""Corruptions of the texts of the houses: what each is called, does, and which check must refuse it."""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from synopsis_writer.gate.text import analyse
from tests.corpus.damage import dress, letters, matter, shape
from tests.corpus.damage.draft import (
    TextChange,
    dice,
    each_sentence,
    insert,
    joined,
    lines,
    paragraphs,
    passages,
    renamed,
    sentences,
)
from tests.houses.corpora import HOUSES, UNSEEN, House, HouseText, cast, load

_FOLDER = Path(__file__).parent
_ALL = (*HOUSES, *UNSEEN)
_SWISS: tuple[House, ...] = ("schweiz", "swiss")
_OWN_MARKS = dict.fromkeys(_ALL, ("„", "“")) | dict.fromkeys(_SWISS, ("«", "»")) | {"magazin": ("»", "«")}
_LONG = tuple(house for house in _ALL if house not in {"epg", "lines"})  # enough sentences for a share or a rhythm
_GERMAN = tuple(house for house in _ALL if house not in _SWISS)  # with ß

# Where a German text has ß and a Swiss one ss.
_SHARP_S = re.compile(
    r"(?i)(?<=str[a])ss|(?<=gr[oö])ss|(?<=(?<!r)f[uü])ss(?!l)|(?<=[^aeiou]ei)ss|(?<=ie)ss|(?<=au)ss(?=er)"
    r"|(?<=drau)ss|(?<=grü)ss|(?<=blo)ss|(?<=st[oö])ss"
)
_FEWEST_VERBS = 5  # that change their tense, and at least two thirds of all
_LONG_SENTENCE = 11  # words: over the run of ten that counts as copied
_FULL_NAME = r"(?:Dr\. )?\w+ \w+"
_SPOKEN = re.compile(r"[„«].*?[“»]", re.DOTALL)

Change = Callable[[HouseText], HouseText]


@dataclass(frozen=True)
class Damage:
    """One kind of corruption.

    A damage that finds nothing to damage returns the text as it is, and is not counted for it.

    Attributes:
        name: what is wrong with the text, in a few words.
        check: the check that must refuse it, since it is the one that can name the reason.
        change: makes a damaged text of a good one.
        houses: those whose texts it applies to.
    """

    name: str
    check: str
    change: Change
    houses: Collection[House] = _ALL


def damaged(text: HouseText) -> Iterator[tuple[Damage, HouseText]]:
    """Yield each corruption that applies to a text, with the corrupted copy."""
    for damage in DAMAGES:
        if text.house in damage.houses:
            bad = damage.change(text)
            if bad != text:
                yield damage, bad


def _on_text(change: TextChange) -> Change:
    return lambda text: replace(text, text=change(text.text))


def _text(name: str, check: str, change: TextChange, houses: Collection[House] = _ALL) -> Damage:
    return Damage(name, check, _on_text(change), houses)


def _spelt_for(house: House, passage: str) -> str:
    """Write a passage of the built-in corpus in the house's orthography, with its quotation marks."""
    if house not in _SWISS:
        return passage.translate(dict(zip(map(ord, "„“"), _OWN_MARKS[house], strict=True)))
    return passage.translate({ord("ß"): "ss", ord("„"): "«", ord("“"): "»"})


def _pick(text: HouseText, name: str) -> str:
    return _spelt_for(text.house, dice(text.text).choice(passages(name)))


def _inserting(name: str) -> Change:
    return lambda text: replace(text, text=insert(text.text, _pick(text, name)))


def _before(name: str) -> Change:
    return lambda text: replace(text, text=joined([_pick(text, name), text.text]))


def _behind(name: str) -> Change:
    return lambda text: replace(text, text=joined([text.text, _pick(text, name)]))


def _instead(name: str) -> Change:
    """Replace the text with the first sentences of a hand-written one, to about the same length."""

    def change(text: HouseText) -> HouseText:
        told: list[str] = []
        for sentence in sentences(" ".join(passages(name))):
            if len(" ".join(told)) < len(text.text):
                told.append(_spelt_for(text.house, sentence))
        return replace(text, text=" ".join(told))

    return change


# Length, paragraphs, rhythm, ending


@cache
def _shortest(house: House) -> int:
    return min(len(text.text) for text in load(house).learn)


def _too_short(text: HouseText) -> HouseText:
    """Leave the first sentence, if that is less than half of the shortest text of the house."""
    first = sentences(text.text)[0]
    return replace(text, text=first) if len(first) < _shortest(text.house) / 2 else text


def _too_long(text: HouseText) -> HouseText:
    """Add three other texts of the house in front of the end."""
    others = [other.text for other in load(text.house).judge if other.id != text.id]
    return replace(text, text=" ".join([*dice(text.text).sample(others, 3), text.text]).replace("\n\n", " "))


def _paragraph_for_each_sentence(text: HouseText) -> HouseText:
    told = sentences(text.text)
    most = max(len(paragraphs(other.text)) for other in load(text.house).learn)
    return replace(text, text=joined(told)) if len(told) >= 2 * most else text


def _endless_sentence(text: str) -> str:
    """Join all sentences but the last into one."""
    told = sentences(text)
    return ", und ".join(sentence.rstrip(".?!… ") for sentence in told[:-1]) + f". {told[-1]}"


def _staccato(text: str) -> str:
    return shape.staccato(text).replace("\n\n", " ")


def _cut_in_word(text: str) -> str:
    last = [word.span for word in analyse(text).words if len(word.form) >= 6][-2]
    return text[: last.start + 3]


def _cut_behind_word(text: str) -> str:
    return text[: analyse(text).words[-4].span.end]


def _quotation_left_open(text: HouseText) -> HouseText:
    opening = _OWN_MARKS[text.house][0]
    return replace(text, text=insert(text.text, f"{opening}Das kann er nicht wissen."))


# Markup


def _bold_names(text: HouseText) -> HouseText:
    bold = text.text
    for name in _named(text):
        bold = bold.replace(name, f"**{name}**")
    return replace(text, text=bold)


def _as_json(text: HouseText) -> HouseText:
    answer = {"title": text.title, "paragraphs": paragraphs(text.text)}
    return replace(text, text=json.dumps(answer, ensure_ascii=False, indent=1))


def _speaker_labels(text: str) -> str:
    told = sentences(text)
    return "\n".join(f"{speaker}: {line}" for speaker, line in zip(("Mutter", "Arzt"), told, strict=False))


def _quotation_marks(opening: str, closing: str) -> Change:
    """Write all quotations with other marks than the house's; a text without any gets one."""

    def change(text: HouseText) -> HouseText:
        first, last = _OWN_MARKS[text.house]
        sound = text.text
        if first not in sound:
            sound = insert(sound, f"Alle nennen ihn nur {first}den Langen{last}.")
        return replace(text, text=sound.translate({ord(first): opening, ord(last): closing}))

    return change


# Talk about the text; person, speech, tense


def _headed(head: Callable[[HouseText], str]) -> Change:
    return lambda text: replace(text, text=f"{head(text)}\n\n{text.text}")


def _about_itself(text: HouseText) -> HouseText:
    told = (_FOLDER / "meta.txt").read_text(encoding="utf-8").strip().split("\n\n")
    return replace(text, text=insert(text.text, dice(text.text).choice(told)))


def _told_by_the_hero(text: HouseText) -> HouseText:
    names = _named(text)
    if not names:
        return text
    parts = [part for part in names[0].split() if part not in {"Dr.", "von", "zu", "de"}]
    hero = rf"\b{re.escape(names[0])}\b|\b(?:{'|'.join(parts)})\b"
    told = re.sub(hero, "ich", text.text)
    return replace(text, text=re.sub(r"((?:^|[.?!] )[„«]?)ich\b", r"\1Ich", told, flags=re.MULTILINE))


def _flood_of_speech(text: HouseText) -> HouseText:
    first, last = _OWN_MARKS[text.house]
    plain = text.text.replace(first, "").replace(last, "")
    told = each_sentence(
        plain, lambda number, told: told if number % 2 else f"{first}{told.rstrip('.?!… ')}{last}, heisst es da."
    )
    return replace(text, text=told.replace("heisst", "heisst" if text.house in _SWISS else "heißt"))


@cache
def _preterites() -> dict[str, str]:
    pairs = [line.split() for line in (_FOLDER / "preterites.txt").read_text(encoding="utf-8").splitlines()]
    known = [(line.split()[0], (line.split() * 2)[1]) for line in lines("verbs")]
    return dict(pairs) | {verb: past if past != verb else f"{verb}e" for verb, past in known}


def _wrong_tense(text: HouseText) -> HouseText:
    """Put the finite verbs outside quotations into the preterite, where most of them can be."""
    spoken = [match.span() for match in _SPOKEN.finditer(text.text)]
    analysed = analyse(text.text)
    verbs = [
        word
        for word, tag in zip(analysed.words, analysed.tags, strict=True)
        if tag.endswith("(FIN)") and not any(start <= word.span.start < end for start, end in spoken)
    ]
    told, changed = text.text, 0
    for word in reversed(verbs):
        past = _preterites().get(word.lower)
        if past is not None:
            past = _spelt_for(text.house, past.capitalize() if word.form[0].isupper() else past)
            told = f"{told[: word.span.start]}{past}{told[word.span.end :]}"
            changed += 1
    return replace(text, text=told) if changed >= max(_FEWEST_VERBS, 2 / 3 * len(verbs)) else text


# Letters and words


def _umlauts_spelt_out(text: str) -> str:
    """Write ae, oe, ue in words that are no names; a text without such words stays."""
    return re.sub(r"\b[a-zß]*[äöü][a-zäöüß]*", lambda match: letters.umlauts_spelt_out(match[0]), text)


def _sharp_s_spelt(text: str) -> str:
    """Write ss for ß in words that are no names."""
    return re.sub(r"\b[a-zäöü]*ß[a-zäöüß]*", lambda match: match[0].replace("ß", "ss"), text)


def _german_sharp_s(text: str) -> str:
    return _SHARP_S.sub("ß", text)


def _last_sentence_in_capitals(text: str) -> str:
    last = len(sentences(text)) - 1
    return each_sentence(text, lambda number, told: told.upper() if number == last else told)


def _exclamations(text: str) -> str:
    return each_sentence(text, lambda number, told: told if number % 2 else re.sub(r" ?[.?…]$", "!", told))


# Copies and loops


def _copied_sentence(text: HouseText) -> HouseText:
    known = [
        sentence
        for other in load(text.house).learn
        for sentence in sentences(other.text)
        if len(re.findall(r"[^\W\d_]+", sentence)) >= _LONG_SENTENCE
    ]
    return replace(text, text=insert(text.text, dice(text.text).choice(known)))


def _copied_text(text: HouseText) -> HouseText:
    """Return a text of the house under this brief, with the names of this show."""
    other = dice(text.text).choice(load(text.house).learn)
    old = _named(other)
    return replace(text, text=renamed(other.text, old, _cast_of(text)) if old else other.text)


def _prompt_leak(text: HouseText) -> HouseText:
    return replace(text, text=_spelt_for(text.house, matter.prompt_leak(text.text)))


def _loop_of_words(text: str) -> str:
    last = analyse(text).words[-1].form
    return f"{text} {' '.join([last] * 30)}."


def _loop_of_sentences(text: str) -> str:
    told = sentences(text)
    return " ".join([*told[:-1], *[max(told[:-1], key=len)] * 3, told[-1]])


def _soft_loop(text: str) -> str:
    """Repeat a long sentence, once with a word more and once with a word less."""
    told = sentences(text)
    words = max(told[:-1], key=len).split()
    again, shorter = [*words[:4], "wieder", *words[4:]], [*words[:6], *words[7:]]
    return " ".join([*told[:-1], *again, *shorter, told[-1]])


def _same_opening(text: str) -> str:
    return each_sentence(text, lambda number, told: f"Dann {told[0].lower()}{told[1:]}" if 0 < number < 4 else told)


# Theme and people


def _wrong_theme(text: HouseText) -> HouseText:
    others = [other.theme for half in load(text.house) for other in half if other.show != text.show]
    return replace(text, theme=dice(text.text).choice(others))


def _cast_of(text: HouseText) -> list[str]:
    return [member.name for member in cast(text.house) if member.show == text.show]


def _named(text: HouseText) -> list[str]:
    """Return the regulars whom the text calls by their whole names."""
    return [name for name in _cast_of(text) if name in text.text]


@cache
def _introduced(house: House) -> tuple[tuple[str, str], ...]:
    """Return the regulars whom a text to learn from calls by their whole names, as (show, name)."""
    told = {(text.show, name) for text in load(house).learn for name in _named(text)}
    return tuple(sorted(told))


def _foreign_cast(text: HouseText) -> list[str]:
    others = [
        (show, name) for show, name in _introduced(text.house) if show != text.show and re.fullmatch(_FULL_NAME, name)
    ]
    show = dice(text.text).choice(others)[0]
    return [name for other, name in others if other == show]


def _people_of_another_show(text: HouseText) -> HouseText:
    known = _named(text)
    foreign = [name for name in _foreign_cast(text) if name not in text.text]
    return replace(text, text=renamed(text.text, known, foreign)) if known and foreign else text


def _guest_of_another_show(text: HouseText) -> HouseText:
    return replace(text, text=insert(text.text, f"Auf dem Flur wartet seit einer Stunde {_foreign_cast(text)[0]}."))


def _people_of_the_brief_missing(text: HouseText) -> HouseText:
    if not text.people:
        return text
    return replace(text, text=renamed(text.text, text.people, lines("names")))


def _crowd_of_strangers(text: HouseText) -> HouseText:
    names = dice(text.text).sample(lines("names"), 12)
    crowd = f"Mit am Tisch sitzen {', '.join(names[:6])}. Später kommen auch {', '.join(names[6:])}."
    return replace(text, text=insert(text.text, crowd))


def _changed_last_name(text: HouseText) -> HouseText:
    """Give a regular of the text another last name once."""
    first = next((name.split()[0] for name in _named(text) if re.fullmatch(_FULL_NAME, name) and "." not in name), None)
    return replace(text, text=insert(text.text, f"Daran hat {first} Strothmann nicht gedacht.")) if first else text


DAMAGES = (
    _text("empty", "length", shape.nothing),
    Damage("too short", "length", _too_short),
    Damage("too long", "length", _too_long),
    Damage("a paragraph for each sentence", "paragraphs", _paragraph_for_each_sentence),
    _text("endless sentence", "rhythm", _endless_sentence, _LONG),
    _text("staccato", "rhythm", _staccato, _LONG),
    Damage("whole English", "language", _instead("english")),
    _text("one English sentence", "language", matter.english_sentence),
    Damage("one foreign sentence", "language", _inserting("foreign")),
    Damage("German mixed with English", "language", _inserting("mixed")),
    _text("cut in mid-word", "ending", _cut_in_word),
    _text("cut in mid-sentence", "ending", _cut_behind_word),
    Damage("quotation left open", "ending", _quotation_left_open),
    _text("bullet list", "markup", dress.bullets),
    _text("numbered list", "markup", dress.numbers),
    Damage("Markdown heading", "markup", _headed(lambda text: f"## {text.title}")),
    Damage("bold names", "markup", _bold_names),
    _text("italics", "markup", dress.italics),
    _text("HTML", "markup", dress.html),
    Damage("JSON", "markup", _as_json),
    _text("code fence", "markup", dress.around("```\n", "\n```")),
    _text("speaker labels", "markup", _speaker_labels),
    _text("emoji", "markup", dress.emoji),
    Damage("hashtag", "markup", _on_text(dress.around("", " #Serie"))),
    _text("link", "markup", dress.link),
    _text("invisible character", "markup", dress.invisible),
    _text("control character", "markup", dress.control),
    Damage("English quotes", "markup", _quotation_marks("“", "”")),
    Damage("straight quotes", "markup", _quotation_marks('"', '"')),
    Damage("inward guillemets", "markup", _quotation_marks("»", "«")),
    Damage("Swiss quotes", "markup", _quotation_marks("«", "»"), _GERMAN),
    Damage("German quotes", "markup", _quotation_marks("„", "“"), _SWISS),
    Damage("meta preface", "meta_talk", _before("prefaces")),
    Damage("meta postscript", "meta_talk", _behind("postscripts")),
    Damage("refusal", "meta_talk", _before("refusals")),
    Damage("chat-template token", "meta_talk", _behind("chat")),
    Damage("talk about the series", "meta_talk", _about_itself),
    Damage("brief repeated", "meta_talk", _headed(lambda text: f"Serie: {text.show}\nThema: {text.theme}")),
    Damage("title repeated", "meta_talk", _headed(lambda text: f"Titel: {text.title}")),
    _text("exclamations", "exclamations", _exclamations, _LONG),
    _text("sentence in capitals", "exclamations", _last_sentence_in_capitals),
    Damage("told by the hero", "person", _told_by_the_hero),
    Damage("whole text in first person", "person", _instead("first_person")),
    Damage("reader addressed", "person", _inserting("address")),
    Damage("dialogue flood", "dialogue", _flood_of_speech, _LONG),
    Damage("wrong tense", "tense", _wrong_tense, _LONG),
    _text("umlauts written out", "umlauts", _umlauts_spelt_out),
    _text("ß spelt ss", "umlauts", _sharp_s_spelt, _GERMAN),
    _text("German ß in a Swiss house", "umlauts", _german_sharp_s, _SWISS),
    _text("mojibake", "umlauts", letters.mojibake),
    _text("letters lost to an encoding", "umlauts", letters.lost_letters),
    _text("garbled letters", "spelling", letters.garbled),
    _text("many typos", "spelling", letters.typos, _LONG),
    _text("dialect spelling", "spelling", letters.dialect, _LONG),
    _text("nonsense words", "spelling", letters.nonsense_words, _LONG),
    _text("wrong articles", "agreement", partial(letters.wrong_articles, every=1), _LONG),
    Damage("prompt leak", "copy", _prompt_leak),
    Damage("one copied sentence", "copy", _copied_sentence),
    Damage("copied text under other names", "copy", _copied_text),
    _text("loop of words", "repetition", _loop_of_words),
    _text("loop of sentences", "repetition", _loop_of_sentences),
    _text("soft loop", "repetition", _soft_loop),
    _text("three sentences begin alike", "repetition", _same_opening, _LONG),
    _text("one noun for all", "repetition", letters.one_noun_for_all, _LONG),
    Damage("theme of another text", "theme", _wrong_theme),
    Damage("sermon of formulas", "theme", _instead("sermon")),
    Damage("people of another show", "cast", _people_of_another_show, _LONG),
    Damage("guest from another show", "cast", _guest_of_another_show, _LONG),
    Damage("people of the brief missing", "cast", _people_of_the_brief_missing, _LONG),
    Damage("crowd of strangers", "cast", _crowd_of_strangers),
    Damage("person changes the last name", "cast", _changed_last_name, _LONG),
    _text("questions only", "hook", shape.questions_only, _LONG),
    _text("question at the end of a closed form", "hook", shape.question_at_the_end, _SWISS),
    _text("ellipsis at the end of a closed form", "hook", lambda text: f"{text.rstrip('.»')} …", _SWISS),
    Damage("invented channel or episode", "dates", _inserting("broadcasts")),
)
