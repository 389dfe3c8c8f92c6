"""A text with spots underlined, for a terminal of any width and for a pipe."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from synopsis_writer.cli.console import printable

_LEAST_WIDTH = 20
_MARK = "~"


def marked(text: str, spans: Sequence[tuple[int, int]], width: int) -> Iterator[str]:
    """Yield the lines of `text`, wrapped at `width` cells, and below a line the marks of its spots."""
    spots = [False] * len(text)
    for start, end in spans:
        spots[start:end] = [True] * len(spots[start:end])
    for start, end in _lines(text, max(_LEAST_WIDTH, width)):
        shown = [printable(char) for char in text[start:end]]
        yield "".join(shown)
        if any(spots[start:end]):
            marks = (
                (_MARK if spot else " ") * cell_len(char)
                for char, spot in zip(shown, spots[start:end], strict=True)
            )
            yield "".join(marks).rstrip()


def _lines(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Yield where the lines begin and end: at line ends, at the last blank before `width`, or at `width`."""
    start = used = 0
    blank = -1
    for position, char in enumerate(text):
        if char == "\n":
            yield start, position
            start, used, blank = position + 1, 0, -1
            continue
        if char == " ":
            blank = position
        used += cell_len(printable(char))
        if used > width and position > start:
            end = blank if blank > start else position
            yield start, end
            start = end + 1 if end == blank else end
            used = sum(cell_len(printable(rest)) for rest in text[start : position + 1])
            blank = -1
    if start < len(text):
        yield start, len(text)
