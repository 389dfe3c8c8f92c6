"""The table that every benchmark prints."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    measured: str
    limit: str = ""


def print_table(sections: Iterable[Callable[[], Iterable[Row]]]) -> None:
    """Run each section, and print its rows as they come."""
    print("| what | measured | limit |\n|---|---|---|")
    for section in sections:
        for row in section():
            print(f"| {row.what} | {row.measured} | {row.limit} |", flush=True)
