"""The yardstick: what all rows of a run are measured against, read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from synopsis_writer.desk import Desk
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.delta import Manner, learn
from synopsis_writer.shows import Show
from synopsis_writer.style.copies import CopyIndex
from synopsis_writer.style.profile import Profile
from synopsis_writer.style.text import Text, analyse, lower_words


@dataclass(frozen=True)
class Yardstick:
    """What texts are measured against beside their own case.

    Attributes:
        shows: the known series.
        profile: the house's bands.
        sources: the index of texts that must not be copied; None where there is none.
        examples: the ids of the examples among these.
        manner: the references' use of function words.
    """

    shows: tuple[Show, ...]
    profile: Profile
    sources: CopyIndex | None
    examples: frozenset[str]
    manner: Manner


def make_yardstick(desk: Desk, cases: Sequence[Case]) -> Yardstick:
    """Build the yardstick from a desk and all the cases of a suite, not only those of the run.

    A run over a few cases is then measured by the same references as one over all.
    """
    references = [(case.brief.form, lower_words(case.reference.text)) for case in cases]
    examples = frozenset(example.id for example in desk.pool.examples)
    return Yardstick(desk.pool.shows, desk.gate.profile, desk.gate.sources, examples, learn(references))


# Rows come case by case or model by model: the references of a suite stay, and so does the row's own text.
@lru_cache(maxsize=128)
def read(raw: str) -> Text:
    """Return the analysed text; the last ones are kept."""
    return analyse(raw)
