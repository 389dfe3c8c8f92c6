"""The limits of a house, learnt from a folder of its texts."""

from collections import defaultdict
from collections.abc import Sequence
from math import ceil, floor, inf
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from synopsis_writer.brief import LEAST_WORDS
from synopsis_writer.document import Document, read_document
from synopsis_writer.errors import ExampleError, InputError
from synopsis_writer.examples import read_brief
from synopsis_writer.gate.form import preterite_share, speech_share
from synopsis_writer.gate.phrases import stock_phrases
from synopsis_writer.gate.story import moving_variety
from synopsis_writer.gate.text import Text, analyse
from synopsis_writer.house.house import House, make_house
from synopsis_writer.storage.files import find_files

FEWEST_TEXTS = 5  # the spread of fewer cannot be known
_SUFFIXES = frozenset({".md", ".txt"})


class Rule(NamedTuple):
    """What learnt limits may be: never narrower than `least_width`, and a share at most 1."""

    least_width: float
    digits: int = 0
    most: float = inf


RULES = {
    "words": Rule(30),
    "paragraphs": Rule(0),
    "sentence_mean": Rule(6, 1),
    "sentence_deviation": Rule(6, 1),
    "sentence_longest": Rule(20),
    "questions": Rule(0.15, 2, 1),
    "speech": Rule(0.05, 2, 1),
    "exclamations": Rule(2),
    "phrases": Rule(0),
    "variety": Rule(0.1, 2, 1),
    "preterite": Rule(0.25, 2, 1),
}

# Values that cannot be too low, or too high.
_FROM_ZERO = frozenset({"sentence_longest", "questions", "speech", "exclamations", "phrases"})
_UP_TO_ONE = frozenset({"variety"})


def measure(text: Text, title: str = "") -> dict[str, float]:
    """Return the values of one text, by the names of the limits."""
    return {
        "words": len(text.words),
        "paragraphs": len(text.paragraphs),
        "sentence_mean": text.mean_length,
        "sentence_deviation": text.deviation,
        "sentence_longest": max(text.lengths, default=0),
        "questions": text.question_share,
        "speech": speech_share(text, title),
        "exclamations": text.raw.count("!"),
        "phrases": len(stock_phrases(text)),
        "variety": moving_variety(text.words),
        "preterite": preterite_share(text),
    }


PRIOR = 5  # texts that the built-in values weigh as much as
_FEWEST_WITH_OUTLIERS = 8


def shrunk_limits(name: str, values: Sequence[float], built_in: tuple[float, float]) -> tuple[float, float]:
    """Return limits that contain all values but outliers, drawn towards the built-in ones.

    Of n values from a to b the next one may lie beyond by four mean gaps, each (b - a) / (n - 1): of fifteen
    values of a bell, one in 300 does on a side. A limit is w times that and 1 - w times the built-in one, but
    never between a and b: w = n / (n + 5) is the weight of n observations beside a prior worth five (Efron
    and Morris, "Data Analysis Using Stein's Estimator and Its Generalizations", 1975). Of eight values or
    more, those over three interquartile ranges beyond the quartiles are outliers (Tukey, "Exploratory Data
    Analysis", 1977). All texts of one length, or with one value, leave limits of a least width.
    """
    rule, is_count = RULES.get(name, RULES["words"]), name in _LEAST_COUNTS
    inner = sorted(values)
    if len(inner) >= _FEWEST_WITH_OUTLIERS:
        first, middle, third = quantiles(inner, n=4)
        fence = max(3 * (third - first), middle / 2 if is_count else rule.least_width)
        inner = [value for value in inner if first - fence <= value <= third + fence]
    weight = len(inner) / (len(inner) + PRIOR)
    low, high = inner[0], inner[-1]
    gaps = 4 * (high - low) / max(1, len(inner) - 1)
    lower = min(low, weight * (low - gaps) + (1 - weight) * built_in[0])
    upper = max(high, weight * (high + gaps) + (1 - weight) * built_in[1])
    least = 0 if name == "exclamations" else rule.least_width
    lack = max(0.0, least - (upper - lower)) / (1 if name in _FROM_ZERO | _UP_TO_ONE else 2)
    if is_count:
        return max(_LEAST_COUNTS[name], floor(lower - lack)), max(ceil(high), round(upper + lack))
    lower = 0.0 if name in _FROM_ZERO else max(0.0, lower - lack)
    upper = 1.0 if name in _UP_TO_ONE else min(upper + lack, rule.most)
    step = 10.0**rule.digits
    return floor(lower * step + _ROUNDING) / step, ceil(upper * step - _ROUNDING) / step


_LEAST_COUNTS = {"words": LEAST_WORDS, "characters": 1, "paragraphs": 1}
_ROUNDING = 1e-9


def calibrate(folder: Path, house: House, name: str, form: str | None = None) -> tuple[House, dict[str, int]]:
    """Return a house learnt from the `.md` and `.txt` files below `folder`, and the number of texts a form.

    Other forms keep the limits of `house`. A text's form is in its front matter; `form` is the form of texts
    without one. Raises InputError if the folder holds no text, or if a text has no form or cannot be read.
    """
    values: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    for path in (path for path in find_files(folder, "**/*") if path.suffix in _SUFFIXES):
        document = read_document(path)
        text_form = read_brief(document).form if "brief" in document.meta else form
        if text_form is None:
            raise InputError(f"{path}: has no front matter that says its form: name one with --form")
        title = str(document.meta.get("title", ""))
        values[text_form].append(measure(analyse(document.text), title))
    if not values:
        raise ExampleError(f"{folder}: holds no text: name a folder with .md or .txt files")
    forms = as_data(house)["forms"]
    for known, rows in values.items():
        limits = {rule: getattr(house.form(known), rule) for rule in RULES}
        forms[known] = {
            rule: shrunk_limits(rule, [row[rule] for row in rows], limits[rule]) for rule in RULES
        }
    learnt = make_house(Document(folder, {"name": name, "forms": forms}, ""))
    return learnt, {known: len(rows) for known, rows in values.items()}


def as_data(house: House) -> dict[str, Any]:
    """Return name and limits of the house as data for a profile, with whole numbers as integers."""
    forms = {
        form: {name: [int(n) if n == int(n) else n for n in getattr(every, name)] for name in RULES}
        for form, every in house.forms.items()
    }
    return {"name": house.name, "forms": forms}
