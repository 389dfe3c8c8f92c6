"""The limits of a house, learnt from a folder of its texts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from synopsis_writer.document import Document, read_document
from synopsis_writer.errors import ExampleError, InputError
from synopsis_writer.examples import read_brief
from synopsis_writer.gate.form import preterite_share, speech_share
from synopsis_writer.gate.story import moving_variety
from synopsis_writer.gate.text import Text, analyse
from synopsis_writer.house.house import Bands, Profile
from synopsis_writer.kinds import Form

FEWEST_TEXTS = 5  # of fewer the spread cannot be known

_SUFFIXES = frozenset({".md", ".txt"})

_TAIL = 0.05  # share of the texts that may lie beyond a quantile on either side: one odd text moves no band

_MARGIN = 0.15  # of the span between the quantiles, added on either side

_FEW_MARGIN = 0.4  # the same when there are fewer than five texts


class Rule(NamedTuple):
    """The hard rules of a band: never narrower than `least_width`, never beyond `floor` and `ceiling`."""

    least_width: float
    floor: float
    ceiling: float
    digits: int = 0


RULES = {
    "words": Rule(150, 50, 2000),
    "paragraphs": Rule(4, 1, 40),
    "sentence_mean": Rule(6, 5, 30, 1),
    "sentence_deviation": Rule(6, 2, 25, 1),
    "sentence_longest": Rule(20, 0, 60),
    "questions": Rule(0.15, 0, 0.6, 2),
    "speech": Rule(0.05, 0, 0.6, 2),
    "exclamations": Rule(2, 0, 10),
    "variety": Rule(0.1, 0.6, 1, 2),
    "preterite": Rule(0.25, 0, 1, 2),
}

# What a text cannot have too little of, or too much.
_FROM_ZERO = frozenset({"sentence_longest", "questions", "speech", "exclamations"})

_UP_TO_ONE = frozenset({"variety"})


@dataclass(frozen=True)
class Calibration:
    """The learnt profile, and how many texts of each form it was learnt from."""

    profile: Profile
    counts: dict[Form, int]


def measure(text: Text, title: str = "") -> dict[str, float]:
    """Return the figures that bands hold, of one text."""
    return {
        "words": len(text.words),
        "paragraphs": len(text.paragraphs),
        "sentence_mean": text.mean_length,
        "sentence_deviation": text.deviation,
        "sentence_longest": max(text.lengths, default=0),
        "questions": text.question_share,
        "speech": speech_share(text, title),
        "exclamations": text.raw.count("!"),
        "variety": moving_variety(text.words),
        "preterite": preterite_share(text),
    }


def learn(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Return a band that holds these values with margin, within the hard rules.

    From the 5th to the 95th percentile (of fewer than five texts from the least to the most), widened by
    15 % (40 %) of that span on either side, then to the least width.
    """
    rule = RULES[name]
    few = len(values) < FEWEST_TEXTS
    cuts = [min(values), max(values)] if few else quantiles(values, n=round(1 / _TAIL), method="inclusive")
    low, high = cuts[0], cuts[-1]
    margin = (high - low) * (_FEW_MARGIN if few else _MARGIN)
    lack = max(0.0, rule.least_width - (high - low + 2 * margin)) / 2
    low = rule.floor if name in _FROM_ZERO else max(rule.floor, low - margin - lack)
    high = rule.ceiling if name in _UP_TO_ONE else min(rule.ceiling, high + margin + lack)
    return _rounded(low, rule.digits), _rounded(high, rule.digits)


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) if digits else round(value)


def calibrate(folder: Path, house: Profile, name: str, form: Form | None = None) -> Calibration:
    """Learn a profile from the `.md` and `.txt` files below `folder`; other forms keep the house's bands.

    A text's form stands in its front matter; `form` is that of the texts without one.

    Raises:
        ExampleError: the folder holds no text, or a text has no form.
        InputError: a file cannot be read.
    """
    values: defaultdict[Form, list[dict[str, float]]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES):
        document = read_document(path)
        own = _form(document, form)
        values[own].append(measure(analyse(document.text), str(document.meta.get("title", ""))))
    if not values:
        raise ExampleError(f"{folder}: holds no text: name a folder with .md or .txt files")
    forms = {
        own: _bands(values[own], bands) if own in values else bands for own, bands in house.forms.items()
    }
    return Calibration(Profile(name, forms), dict(Counter({own: len(rows) for own, rows in values.items()})))


def _form(document: Document, form: Form | None) -> Form:
    if "brief" in document.meta:
        return read_brief(document).form
    if form is None:
        raise InputError(f"{document.path}: has no front matter that says its form: name one with --form")
    return form


def _bands(rows: Sequence[dict[str, float]], house: Bands) -> Bands:
    """Learn the bands of one form; what needs more than the text (unknown words) stays the house's."""
    return house.model_copy(update={name: learn(name, [row[name] for row in rows]) for name in RULES})


def as_data(profile: Profile) -> dict[str, Any]:
    """Return the profile as its file holds it."""
    forms = {
        form.value: {name: [_plain(end) for end in band] for name, band in bands}
        for form, bands in profile.forms.items()
    }
    return {"name": profile.name, "forms": forms}


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
