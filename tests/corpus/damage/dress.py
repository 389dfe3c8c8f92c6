"""Corruptions that add markup to the prose, or a model's chatter around it."""

import json
from dataclasses import replace

from tests.corpus.damage.draft import (
    Change,
    Draft,
    TextChange,
    dice,
    insert,
    joined,
    on_text,
    paragraphs,
    passages,
    sentences,
)

_EMOJI = ("❤️", "😢", "🏥", "👉", "✨", "🙏🏽")
_INVISIBLE = ("\u200b", "\u00ad", "\ufeff", "\u202e", "\u2060", "\u200d")
_CONTROL = ("\x00", "\x07", "\x1b[1m", "\x7f", "\x0c", "\x9d")
_LINKS = (
    "Mehr dazu unter https://example.org/folge.",
    "Alles Weitere steht auf www.example.org.",
    "Weiter geht es [hier](https://example.org).",
    "Fragen beantwortet redaktion@example.org.",
    "Bilder zeigt @serienfan.",
)
_HTML = (("<p>", "</p>"), ("", "<br/>"), ('<div class="text">', "</div>"), ("", "&nbsp;"), ("<b>", "</b>"))
_SPEAKERS = ("Ärztin", "Dr. Seidel", "Pfleger Jonas", "MUTTER", "Erzähler (leise)")


def last_paragraph(dress: TextChange) -> Change:
    """Change only the last paragraph."""
    return on_text(lambda text: joined([*paragraphs(text)[:-1], dress(paragraphs(text)[-1])]))


def around(before: str, after: str = "") -> TextChange:
    return lambda text: f"{before}{text}{after}"


def bullets(text: str) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences(text))


def numbers(text: str) -> str:
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences(text), 1))


def headings(draft: Draft) -> Draft:
    parts = [f"## {name}\n{part}" for name, part in zip(draft.names, paragraphs(draft.text), strict=False)]
    return replace(draft, text=joined([*parts, *paragraphs(draft.text)[len(parts) :]]))


def bold_names(draft: Draft) -> Draft:
    text = draft.text
    for name in draft.names:
        text = text.replace(name, f"**{name}**")
    return replace(draft, text=text)


def italics(text: str) -> str:
    first, rest = text.split(" ", 1)
    return f"*{first}* {rest}"


def html(text: str) -> str:
    before, after = dice(text).choice(_HTML)
    return joined(f"{before}{part}{after}" for part in paragraphs(text))


def as_json(draft: Draft) -> Draft:
    answer = {"title": draft.title, "paragraphs": paragraphs(draft.text)}
    return replace(draft, text=json.dumps(answer, ensure_ascii=False, indent=1))


def cast_table(draft: Draft) -> Draft:
    rows = [f"| {name} | Hauptfigur |" for name in draft.names]
    return replace(draft, text=joined([draft.text, "\n".join(["| Figur | Rolle |", "|---|---|", *rows])]))


def emoji(text: str) -> str:
    return insert(text, dice(text).choice(_EMOJI))


def hashtag(draft: Draft) -> Draft:
    return replace(draft, text=f"{draft.text} #{draft.show.name.replace(' ', '')}")


def link(text: str) -> str:
    return insert(text, dice(text).choice(_LINKS))


def _in_mid_word(text: str, marks: tuple[str, ...]) -> str:
    throw = dice(text)
    at = max(text.find("en", throw.randrange(len(text) // 2)), text.index("en")) + 1
    return text[:at] + throw.choice(marks) + text[at:]


def invisible(text: str) -> str:
    return _in_mid_word(text, _INVISIBLE)


def control(text: str) -> str:
    return _in_mid_word(text, _CONTROL)


def quotation_marks(opening: str, closing: str) -> TextChange:
    """Write all quotations with other quotation marks; a text without any gets one."""

    def change(text: str) -> str:
        sound = text if "„" in text else insert(text, "Alle nennen ihn nur „den Langen“.")
        return sound.translate({ord("„"): opening, ord("“"): closing})

    return change


def script(text: str) -> str:
    parts = paragraphs(text)
    return joined([*parts[:2], *passages("script"), *parts[2:]])


def speaker_labels(text: str) -> str:
    parts = paragraphs(text)
    told = zip(_SPEAKERS, sentences(parts[1]), strict=False)
    return joined([parts[0], "\n".join(f"{speaker}: {said}" for speaker, said in told), *parts[1:]])


def brief_repeated(draft: Draft) -> Draft:
    head = f"Serie: {draft.show.name}\nThema: {draft.brief.theme}"
    return replace(draft, text=joined([head, draft.text]))


def title_repeated(draft: Draft) -> Draft:
    return replace(draft, text=joined([f"Titel: {draft.title}", draft.text]))


def title_line(draft: Draft) -> Draft:
    return replace(draft, text=joined([draft.title, draft.text]))
