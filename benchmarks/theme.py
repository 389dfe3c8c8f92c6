"""Measure the check of the theme: each of our texts under its own theme and under all others.

    python -m benchmarks.theme [--semantic]

The texts are the examples, the references and the good texts of the corpus, in two halves by a hash of their
ids. Limits were set on half A; half B is held out. Texts that tell one story are no strangers to each other.
The themes of `tests/corpus/retold_themes.txt` are those of such texts in quite other words.
"""

import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from synopsis_writer.examples import Example, example_files, load_example
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.story import closeness, theme
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.show import find_show, generic_show
from synopsis_writer.workspace import open_workspace
from tests.corpus.damage.draft import HALVES, half_of

_ROOT = Path(__file__).resolve().parent.parent
_SAME_STORY = (
    ("acht-takte-zu-viel", "das-fehlende-nicken"),
    ("das-stichwort", "die-botin"),
    ("vierhaendig", "das-rechte-pedal"),
    ("die-naht-der-rivalin", "der-rote-stift"),
    ("nur-auf-besuch", "zwei-unterschriften"),
)
_LENGTHS = (60, 120, 220)  # words of shortened texts
_FEW = 100  # of which shares say too little
RETOLD = _ROOT / "tests" / "corpus" / "retold_themes.txt"


def texts() -> list[Example]:
    """Return the examples, the references, and the good texts of the corpus."""
    paths = [*example_files(folder("examples")), *sorted((_ROOT / "evals" / "cases").glob("*.md"))]
    return [load_example(path) for path in (*paths, *example_files(_ROOT / "tests" / "corpus" / "good"))]


def beginning(text: str, words: int) -> str:
    """Return the first sentences of a text, of so many words or a few more."""
    parts: list[str] = []
    for sentence in analyse(text).sentences:
        parts.append(sentence.text)
        if sum(len(part.split()) for part in parts) >= words:
            break
    return " ".join(parts)


def verdict(subject: Subject) -> str:
    """Return whether the text passes for its theme, is warned of, or is refused, by words or by meaning."""
    found = [finding for finding in (theme(subject), closeness(subject)) if finding and not finding.passed]
    return max((finding.level for finding in found), key=("warning", "error").index, default="passed")


def shares(verdicts: Sequence[str]) -> str:
    """Return how many are refused, and how many refused or warned of, as two cells of a table."""
    refused, named = verdicts.count("error"), len(verdicts) - verdicts.count("passed")
    if len(verdicts) < _FEW:
        return f"{refused} | {named} of {len(verdicts)}"
    return f"{refused / len(verdicts):.1%} | {named / len(verdicts):.1%} of {len(verdicts)}"


def retold() -> Iterator[tuple[str, str, str]]:
    """Yield half, name of the text, and theme of each that is told in quite other words."""
    for line in RETOLD.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"([AB]) ([\w-]+): (.+)", line):
            yield match[1], match[2], match[3]


def row(subjects: Mapping[str, Subject], half: str, words: int = 0) -> str:
    """Return a line of the table, for whole texts or the beginnings of so many words."""
    ids = [text for text in subjects if half_of(text) == half]
    own, strange = list[str](), list[str]()
    for one in ids:
        subject = subjects[one]
        if words:
            subject = replace(subject, text=analyse(beginning(subject.text.raw, words)))
        for other in ids:
            if one == other:
                own.append(verdict(subject))
            elif {one.split("/")[-1], other.split("/")[-1]} not in map(set, _SAME_STORY):
                brief, show = subjects[other].brief, subjects[other].show
                strange.append(verdict(replace(subject, brief=brief, show=show)))
    name = f"first {words} words" if words else "whole"
    return f"| {half} | {name} | {shares(own)} | {shares(strange)} |"


def retold_row(subjects: Mapping[str, Subject], half: str) -> str:
    """Return a line of the table, for themes in quite other words than those of texts and briefs."""
    own, strange = list[str](), list[str]()
    for _, name, line in (each for each in retold() if each[0] == half):
        asked = next(subject for text, subject in subjects.items() if text.endswith(f"/{name}"))
        assert asked.brief is not None
        brief = asked.brief.model_copy(update={"theme": line})
        for subject in subjects.values():
            found = own if subject is asked else strange
            found.append(verdict(replace(subject, brief=brief, show=asked.show)))
    return f"| {half} | retold themes | {shares(own)} | {shares(strange)} |"


def main(arguments: Sequence[str]) -> None:
    """Print the share of strange themes refused and of own themes lost, and the time."""
    is_semantic = "--semantic" in arguments
    workspace = open_workspace(load_settings({"semantic": is_semantic}))
    subjects = {}
    for text in texts():
        show = find_show(workspace.pool.shows, text.brief.show) or generic_show(text.brief.show)
        subjects[text.id] = workspace.gate.subject(text.synopsis.text, text.brief.form, show, text.brief)
    print("| half | texts | own themes refused | or warned of | strange themes refused | or warned of |")
    print("|---|---|---|---|---|---|")
    for half in HALVES:
        for words in (0,) if is_semantic else (0, *_LENGTHS):
            print(row(subjects, half, words))
        print(retold_row(subjects, half))
    milliseconds = []
    for subject in subjects.values():
        begun = time.perf_counter()
        theme(subject)
        milliseconds.append((time.perf_counter() - begun) * 1000)
    print(f"\n{statistics.median(milliseconds):.1f} ms a text, median")


if __name__ == "__main__":
    main(sys.argv[1:])
