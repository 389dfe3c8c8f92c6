"""The references that evals compare with pass the gate themselves, and copy no example."""

from pathlib import Path

import pytest

from synopsis_writer.document import read_document
from synopsis_writer.examples import Example, load_example, load_pool
from synopsis_writer.gate.gate import copy_sources, failures
from synopsis_writer.gate.sources import RUN, index_sources, name_forms
from synopsis_writer.gate.story import COPIED_RUN, COPIED_SHARE
from synopsis_writer.gate.text import analyse, lower_words
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.show import find_show, generic_show
from synopsis_writer.workspace import open_workspace

CASES = [load_example(path) for path in sorted((Path(__file__).parent.parent / "evals" / "cases").glob("*.md"))]


def test_there_are_cases() -> None:
    assert len(CASES) >= 20
    assert len({case.brief.show for case in CASES}) >= 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_reference_passes_the_gate(case: Example) -> None:
    workspace = open_workspace(load_settings({}, {}))
    show = find_show(workspace.pool.shows, case.brief.show) or generic_show(case.brief.show)
    assert failures(workspace.gate.examine(case.synopsis, case.brief, show)) == ()
    facts = read_document(case.path).meta["facts"]
    assert 4 <= len(facts) <= 7


def test_no_reference_shares_more_with_an_example_than_the_check_allows() -> None:
    examples = load_pool([folder("examples")]).examples
    index = index_sources(copy_sources(examples))

    def shared(text: Example) -> tuple[int, float]:
        names = name_forms(person.name for person in text.synopsis.characters)
        words = len(lower_words(text.synopsis.text))
        runs = [match.words for match in index.matches(analyse(text.synopsis.text), names)]
        return max(runs, default=0), sum(run - RUN + 1 for run in runs) / (words - RUN + 1)

    assert all(shared(example)[0] >= COPIED_RUN for example in examples), "the guard sees a copy"
    found = {case.id: shared(case) for case in CASES}
    assert {name: pair for name, pair in found.items() if pair[0] >= COPIED_RUN or pair[1] > COPIED_SHARE} == {}
