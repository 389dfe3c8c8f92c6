"""Corruptions of the content: language, tense, person, originality, theme, cast."""

import re
from dataclasses import replace
from functools import cache
from itertools import cycle, islice

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example
from synopsis_writer.prompts.templates import load_prompts
from synopsis_writer.settings import folder
from tests.corpus.damage.draft import Draft, dice, insert, joined, lines, paragraphs, passages, pool, renamed, sentences
from tests.corpus.damage.letters import other_tense

_LONG_SENTENCE = 14  # words: well over the run of ten that counts as copied
_LONG_PARAGRAPH = 40


def half_english(text: str) -> str:
    parts, english = paragraphs(text), passages("english")
    return joined([*parts[: len(parts) // 2], *english[len(english) // 2 :]])


def english_sentence(text: str) -> str:
    return insert(text, dice(text).choice(sentences(joined(passages("english")))))


def wrong_tense(draft: Draft) -> Draft:
    """Tell all in the other tense; in a special, which takes either, the second half of each paragraph."""
    if draft.brief.form != "special":
        return replace(draft, text=other_tense(draft.text, to_present=False))
    halves = [(told[: len(told) // 2], told[len(told) // 2 :]) for told in map(sentences, paragraphs(draft.text))]
    parts = [" ".join([*one, other_tense(" ".join(two), to_present=True)]) for one, two in halves]
    return replace(draft, text=joined(parts))


def told_by_the_hero(draft: Draft) -> Draft:
    """Let the first person of the cast tell the story."""
    hero = [part for part in draft.names[0].split() if not part.endswith(".")]
    first_person = re.sub(rf"\b{' '.join(hero)}\b|\b(?:{'|'.join(hero)})\b", "ich", draft.text)
    return replace(draft, text=re.sub(r"((?:^|[.?!] )„?)ich\b", r"\1Ich", first_person, flags=re.MULTILINE))


def _other_example(draft: Draft) -> Example:
    return dice(draft.text).choice([e for e in pool().examples if e.brief.form == draft.brief.form])


def _long_part(parts: list[str], least: int, text: str) -> str:
    return dice(text).choice([part for part in parts if len(part.split()) >= least])


@cache
def _rules() -> list[str]:
    """Return the sentences of the templates that have no markup in them."""
    return [
        rule
        for template in load_prompts(folder("prompts")).templates.values()
        for line in re.split(r"\n|{%.*?%}", template.source)
        for rule in sentences(line)
        if "{" not in rule
    ]


def prompt_leak(text: str) -> str:
    """Repeat a sentence of the instructions."""
    return insert(text, _long_part(_rules(), _LONG_SENTENCE, text).lstrip("- "))


def copied_sentence(draft: Draft) -> Draft:
    copied = _long_part(sentences(_other_example(draft).synopsis.text), _LONG_SENTENCE, draft.text)
    return replace(draft, text=insert(draft.text, copied))


def copied_paragraph(draft: Draft) -> Draft:
    source = paragraphs(_other_example(draft).synopsis.text)
    parts = paragraphs(draft.text)
    copied = _long_part(source, _LONG_PARAGRAPH, draft.text)
    return replace(draft, text=joined([parts[0], copied, *parts[2:]]))


def copied_with_other_names(draft: Draft) -> Draft:
    """Return an example with all people renamed, and declare nobody."""
    example = _other_example(draft)
    old = [person.name for person in example.synopsis.characters]
    text = renamed(example.synopsis.text, old, lines("names"))
    return replace(draft, text=text, people=())


def copied_with_own_names(draft: Draft) -> Draft:
    """Return an example with the names that the brief asks for and the answer declares."""
    example = _other_example(draft)
    old = [person.name for person in example.synopsis.characters]
    text = renamed(example.synopsis.text, old, list(islice(cycle(draft.names), len(old))))
    return replace(draft, text=text)


def _with_theme(brief: Brief, theme: str) -> Brief:
    return brief.model_copy(update={"theme": theme})


def wrong_theme(draft: Draft) -> Draft:
    return replace(draft, brief=_with_theme(draft.brief, draft.pick("themes")))


def _foreign_cast(draft: Draft) -> list[str]:
    others = [show for show in pool().shows if show.name != draft.show.name and show.cast]
    cast = [member.name for member in dice(draft.text).choice(others).cast]
    return [name for name in cast if len(name.split()) > 1]


def people_of_another_show(draft: Draft) -> Draft:
    cast = _foreign_cast(draft)
    return replace(draft, text=renamed(draft.text, draft.names, cast), people=tuple(cast[:5]))


def guest_of_another_show(draft: Draft) -> Draft:
    guest = _foreign_cast(draft)[0]
    return replace(draft, text=insert(draft.text, f"Auf dem Flur wartet seit einer Stunde {guest}."))


def people_of_the_brief_missing(draft: Draft) -> Draft:
    return replace(
        draft, text=renamed(draft.text, draft.names, lines("names")), people=lines("names")[: len(draft.people)]
    )


def crowd_of_strangers(draft: Draft) -> Draft:
    names = dice(draft.text).sample(lines("names"), 12)
    crowd = f"Mit am Tisch sitzen {', '.join(names[:6])}. Später kommen auch {', '.join(names[6:])}."
    return replace(draft, text=insert(draft.text, crowd))


def changed_last_name(draft: Draft) -> Draft:
    """Give a person of the text another last name once."""
    told = [name.split() for name in draft.names if name in draft.text and name.count(" ") == 1]
    first = next((first for first, _ in told if not first.endswith(".")), None)
    if first is None:
        return draft
    return replace(draft, text=insert(draft.text, f"Daran hat {first} Strothmann nicht gedacht."))
