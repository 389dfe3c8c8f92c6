"""Counts stock phrases: `python -m benchmarks.floskel PEOPLE MODELS`, each a text file or a folder of them.

Prints each pattern that turned up, with its rate per thousand words of both, which are the last columns of
`gate/data/floskeln.txt`, and the rates of the examples, the references and the good texts of the corpus.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from synopsis_writer.examples import load_example
from synopsis_writer.gate.language import stock_phrases
from synopsis_writer.gate.text import Text, analyse
from synopsis_writer.settings import folder
from synopsis_writer.storage.files import find_files

CORPUS = Path(__file__).parent.parent / "tests" / "corpus" / "good"


def read(path: Path) -> list[Text]:
    """Return the texts of a file, which blank lines part, or of a folder's files."""
    files = find_files(path, "**/*.txt") if path.is_dir() else [path]
    return [analyse(part) for file in files for part in file.read_text(encoding="utf-8").split("\n\n") if part.strip()]


def count(texts: Sequence[Text]) -> tuple[Counter[str], int]:
    """Return how often each pattern turned up, and the number of words."""
    found = Counter(phrase.pattern for text in texts for phrase in stock_phrases(text))
    return found, sum(len(text.words) for text in texts)


def main() -> None:
    """Print the rates."""
    people, models = (count(read(Path(name))) for name in sys.argv[1:])
    for pattern in sorted({*people[0], *models[0]}):
        rates = (f"{1000 * found[pattern] / max(1, words):.2f}" for found, words in (people, models))
        print(" | ".join([pattern, *rates]))
    own = {
        "examples": find_files(folder("examples"), "*/*.md"),
        "references": find_files(folder("evals"), "cases/*.md"),
        "corpus": find_files(CORPUS, "*/*.md"),
    }
    texts = {name: count([analyse(load_example(path).synopsis.text) for path in own[name]]) for name in own}
    for name, (found, words) in {"people": people, "models": models, **texts}.items():
        rate = 1000 * found.total() / max(1, words)
        print(f"{name}: {found.total()} in {words:,} words, {rate:.2f} per thousand")


if __name__ == "__main__":
    main()
