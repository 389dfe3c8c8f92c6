"""Marks: the spots of a text that findings point at, cut out of its paragraphs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from synopsis_writer.synopsis import Synopsis

_GAP = len("\n\n")  # between two paragraphs of a synopsis's text


@dataclass(frozen=True)
class Piece:
    """A part of a paragraph that is marked, or is not."""

    text: str
    is_marked: bool


@dataclass(frozen=True)
class Passage:
    """A paragraph in pieces, and the storyline it tells."""

    storyline: str
    pieces: tuple[Piece, ...]


def marked(synopsis: Synopsis, spans: Sequence[tuple[int, int]]) -> tuple[Passage, ...]:
    """Cut the paragraphs where spans in `synopsis.text` begin and end; overlapping ones become one."""
    merged, passages, start = merge(spans), [], 0
    for paragraph in synopsis.paragraphs:
        pieces = tuple(_pieces(paragraph.text, start, merged))
        passages.append(Passage(paragraph.storyline, pieces))
        start += len(paragraph.text) + _GAP
    return tuple(passages)


def merge(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, those that touch or overlap as one, empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _pieces(text: str, start: int, merged: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """Yield the pieces of a paragraph that begins at `start` in the whole text."""
    cuts = {0, len(text)}
    inside = [(max(0, low - start), min(len(text), high - start)) for low, high in merged]
    inside = [(low, high) for low, high in inside if low < high]
    for span in inside:
        cuts.update(span)
    for low, high in pairwise(sorted(cuts)):
        yield Piece(text[low:high], any(first <= low and high <= last for first, last in inside))
