"""Corruptions of the shape: length, cuts, loops, rhythm, paragraphs, speech, questions."""

import re

from synopsis_writer.gate.text import analyse
from tests.corpus.damage.draft import dice, each_sentence, insert, joined, paragraphs, passages, sentences


def nothing(_: str) -> str:
    return ""


def only_spaces(_: str) -> str:
    return " \n\n \n "


def beginning_only(text: str) -> str:
    return paragraphs(text)[0]


def far_too_long(text: str) -> str:
    parts = paragraphs(text)
    return joined([*parts[:-1], *passages("filler"), *passages("sermon"), parts[-1]])


def cut_in_word(text: str) -> str:
    last = [word.span for word in analyse(text).words if len(word.form) >= 6][-5]
    return text[: last.start + 3]


def cut_behind_word(text: str) -> str:
    return text[: analyse(text).words[-5].span.end]


def cut_behind_sentence(text: str) -> str:
    return text[: analyse(text).sentences[-2].span.end]


def quotation_left_open(text: str) -> str:
    head, mark, tail = text.rpartition("“")
    return head + tail if mark else insert(text, "„Das kann er nicht wissen.")


def loop_of_words(text: str) -> str:
    last = text.rsplit(maxsplit=1)[-1].rstrip(".?!“")
    return f"{text} {' '.join([last] * 30)}."


def loop_of_sentences(text: str) -> str:
    parts = paragraphs(text)
    looped = max(sentences(parts[-2]), key=len)
    return joined([*parts[:-1], " ".join([looped] * 4), parts[-1]])


def loop_of_paragraphs(text: str) -> str:
    parts = paragraphs(text)
    return joined([*parts[:-1], parts[1], parts[-1]])


def soft_loop(text: str) -> str:
    """Repeat a long sentence three times, each time with one word more or less."""
    parts = paragraphs(text)
    words = max(sentences(parts[-2]), key=len).split()
    again = [*words[:4], "wieder", *words[4:]]
    shorter = [*words[:6], *words[7:]]
    return joined([*parts[:-1], " ".join([*again, *shorter]), parts[-1]])


def same_opening(text: str) -> str:
    """Let three sentences in a row begin alike."""
    return each_sentence(text, lambda number, told: f"Dann {told[0].lower()}{told[1:]}" if 2 < number < 6 else told)


def one_paragraph(text: str) -> str:
    return text.replace("\n\n", " ")


def paragraph_for_each_sentence(text: str) -> str:
    return joined(sentences(text))


def endless_sentence(text: str) -> str:
    parts = paragraphs(text)
    told = [sentence.rstrip(".?!") for sentence in sentences(joined(parts[1:3]))]
    return joined([parts[0], ", und ".join(told) + ".", *parts[3:]])


def _chopped(text: str, size: int) -> str:
    """Split the words into sentences of equal length, whatever they say; four sentences per paragraph."""
    words = re.findall(r"[^\W\d_]+", text)
    cut = [" ".join(words[i : i + size]) for i in range(0, len(words) - size + 1, size)]
    told = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in cut]
    return joined(" ".join(told[i : i + 4]) for i in range(0, len(told), 4))


def monotone(text: str) -> str:
    return _chopped(text, 13)


def staccato(text: str) -> str:
    return _chopped(text, 5)


def long_winded(text: str) -> str:
    """Join every three sentences into one."""

    def linked(number: int, told: str) -> str:
        return told if number % 3 == 2 else told.rstrip(".?!“") + ", wobei"

    return joined(each_sentence(part, linked).rstrip(", wobei") + "." for part in paragraphs(text))


def exclamations(text: str) -> str:
    return each_sentence(text, lambda number, told: told if number % 3 else re.sub(r"[.?]$", "!", told))


def flood_of_speech(text: str) -> str:
    return each_sentence(
        text, lambda number, told: told if number % 2 else f"„{told.strip('„“').rstrip('.?!')}“, hieß es."
    )


def questions_only(text: str) -> str:
    return each_sentence(text, lambda number, told: told if number % 3 == 1 else re.sub(r"[.!]$", "?", told))


def question_at_the_end(text: str) -> str:
    asked = ("Wird das gut gehen?", "Ob er ihr verzeihen kann?", "Oder kommt sie zu spät?")
    return f"{text} {dice(text).choice(asked)}"


def no_question_at_the_end(text: str) -> str:
    kept = joined(paragraphs(text)[:-2])
    return kept + text[len(kept) :].replace("?", ".")
