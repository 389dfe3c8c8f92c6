"""The references that evals will compare with hold the gate themselves, and copy no example."""

from pathlib import Path

import pytest

from synopsis_writer.desk import load_desk
from synopsis_writer.document import read_document
from synopsis_writer.examples import Example, load_example
from synopsis_writer.settings import load_settings
from synopsis_writer.shows import find_show
from synopsis_writer.style.gate import failures

CASES = [
    load_example(path) for path in sorted((Path(__file__).parent.parent / "evals" / "cases").glob("*.md"))
]


def test_there_are_cases() -> None:
    assert len(CASES) >= 20
    assert len({case.brief.show for case in CASES}) >= 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_reference_holds_the_gate(case: Example) -> None:
    desk = load_desk(load_settings({}, {}))
    show = find_show(desk.pool.shows, case.brief.show)
    assert show is not None
    assert failures(desk.gate.examine(case.synopsis, case.brief, show)) == ()
    facts = read_document(case.path).meta["facts"]
    assert 4 <= len(facts) <= 7
