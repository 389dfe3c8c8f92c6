"""The metrics: each moves in the stated direction, and is unscored, not 0, where it cannot be computed."""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from synopsis_writer.evals.metrics import (
    METRICS,
    MIN_REFERENCES,
    FunctionWordProfile,
    References,
    character_overlap,
    fact_recall,
    score,
    word_overlap,
)
from synopsis_writer.evals.record import AttemptLine, Row
from synopsis_writer.evals.suite import Case, load_cases
from synopsis_writer.examples import load_pool
from synopsis_writer.gate.text import analyse, lower_words
from synopsis_writer.house import built_in_house
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import open_workspace
from tests.corpus.damage.draft import renamed
from tests.corpus.measure import good_texts

FORMS = tuple(built_in_house().forms)

ROOT = Path(__file__).parent.parent
CASES = [case for case in load_cases(ROOT / "evals" / "cases") if case.house is None]
EXAMPLES = {example.id: example.synopsis for example in load_pool([folder("examples")]).examples}
TEXT_METRICS = list(METRICS)[6:]
# Examples that tell a case's story in another's words.
SAME_STORY = {
    "die-botin": "in-aller-freundschaft/das-stichwort",
    "zwei-unterschriften": "die-jungen-aerzte/nur-auf-besuch",
    "das-rechte-pedal": "in-aller-freundschaft/vierhaendig",
    "der-rote-stift": "alles-was-zaehlt/die-naht-der-rivalin",
    "das-fehlende-nicken": "in-aller-freundschaft/acht-takte-zu-viel",
}


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.id == name)


@cache
def references() -> References:
    return References(open_workspace(load_settings({}, {})), CASES)


def made(synopsis: Synopsis | None, *, passed: bool = True, number: int = 1) -> AttemptLine:
    return AttemptLine(number=number, passed=passed, problems=(), checks=(), answer="", synopsis=synopsis)


def row_of(case: Case, synopsis: Synopsis | None) -> Row:
    return Row(
        case=case.id,
        model="m",
        prompt="p",
        repeat=0,
        outcome="accepted" if synopsis else "refused",
        attempts=(made(synopsis, passed=synopsis is not None),),
        best=0 if synopsis else None,
        prompt_tokens=3000,
        completion_tokens=700,
        amount=Decimal("0.0125"),
        currency="EUR",
        seconds=8.5,
    )


def scores(case: Case, synopsis: Synopsis) -> dict[str, float | None]:
    return dict(score(row_of(case, synopsis), case, references()).scores)


def with_text(synopsis: Synopsis, paragraphs: Sequence[str]) -> Synopsis:
    parts = [{"storyline": "A", "text": text} for text in paragraphs]
    return Synopsis.model_validate({**synopsis.model_dump(), "paragraphs": parts})


def test_the_metrics_are_these_in_this_order() -> None:
    assert (
        list(METRICS)
        == (
            "passed_first passed attempts tokens cost seconds "
            "chrf rouge_l characters facts length_ratio ending delta novelty"
        ).split()
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_reference_measured_by_itself_reaches_the_top(case: Case) -> None:
    found = scores(case, case.reference)
    assert {name: found[name] for name in ("chrf", "rouge_l", "characters", "length_ratio", "ending")} == {
        "chrf": pytest.approx(100),
        "rouge_l": 1.0,
        "characters": 1.0,
        "length_ratio": 1.0,
        "ending": 1.0,
    }
    assert found["facts"] == 1.0
    assert (found["novelty"] or 0) > 0.98


def test_passes_attempts_tokens_cost_and_seconds_are_those_of_the_row() -> None:
    case = CASES[0]
    repaired = row_of(case, case.reference).model_copy(
        update={"attempts": (made(None, passed=False), made(case.reference, number=2)), "best": 1}
    )
    found = score(repaired, case, references()).scores
    names = ("passed_first", "passed", "attempts", "tokens", "cost", "seconds")
    assert [found[name] for name in names] == [0.0, 1.0, 2.0, 3700.0, 0.0125, 8.5]


def test_an_unpriced_row_has_no_cost_and_one_that_cost_nothing_has_zero() -> None:
    row = row_of(CASES[0], CASES[0].reference)
    unpriced = score(row.model_copy(update={"amount": None}), CASES[0], references())
    free = score(row.model_copy(update={"amount": Decimal(0)}), CASES[0], references())
    assert (unpriced.scores["cost"], free.scores["cost"]) == (None, 0.0)


def test_a_failed_row_counts_in_passes_and_attempts_alone() -> None:
    case = CASES[0]
    failed = row_of(case, case.reference).model_copy(update={"outcome": "failed", "attempts": (), "best": None})
    found = score(failed, case, references()).scores
    assert {name: value for name, value in found.items() if value is not None} == {
        "passed_first": 0.0,
        "passed": 0.0,
        "attempts": 0.0,
    }


def test_a_refused_row_is_scored_on_its_best_text() -> None:
    case = CASES[0]
    refused = row_of(case, case.reference).model_copy(
        update={"outcome": "refused", "attempts": (made(case.reference, passed=False),)}
    )
    found = score(refused, case, references()).scores
    assert found["passed"] == 0.0
    assert found["rouge_l"] == 1.0


def test_a_row_without_a_text_is_unscored_in_every_text_metric() -> None:
    found = score(row_of(CASES[0], None), CASES[0], references()).scores
    assert {found[name] for name in TEXT_METRICS} == {None}
    assert found["attempts"] == 1.0


def test_without_its_case_a_row_keeps_what_needs_no_case() -> None:
    found = score(row_of(CASES[0], CASES[0].reference), None, references()).scores
    assert [name for name in METRICS if found[name] is None] == list(TEXT_METRICS[:-1])
    assert (found["novelty"] or 0) > 0.98


def test_overlap_falls_from_the_same_text_to_the_same_story_to_another() -> None:
    for name, example in SAME_STORY.items():
        case = case_of(name)
        others = [scores(case, each.synopsis) for each in good_texts() if each.brief.form == case.brief.form]
        own, told = scores(case, case.reference), scores(case, EXAMPLES[example])
        for metric in ("chrf", "rouge_l"):
            highest = max(found[metric] or 0 for found in others)
            assert (own[metric] or 0) > (told[metric] or 0) > highest * 0.95, (name, metric)


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence_and_tells_umlauts_apart() -> None:
    text, reference = lower_words("Die Ärztin hört spät zu."), lower_words("Die Ärztin hört am Abend zu.")
    assert word_overlap(text, reference) == pytest.approx(2 * 4 / (5 + 6))
    assert word_overlap(lower_words("schon"), lower_words("schön")) == 0.0
    assert word_overlap([], ["a"]) == 0.0


def test_chrf_agrees_with_its_paper() -> None:
    def f2(text: str, reference: str) -> float:
        # every run of each length, spaces left out; the mean of precision and of recall; recall counts twice
        shares = []
        for length in range(1, 7):
            a, b = (
                [joined[i : i + length] for i in range(len(joined) - length + 1)]
                for joined in (text.replace(" ", ""), reference.replace(" ", ""))
            )
            if a and b:
                hits = sum(min(a.count(run), b.count(run)) for run in set(a))
                shares.append((hits / len(a), hits / len(b)))
        precision = sum(share for share, _ in shares) / len(shares)
        recall = sum(share for _, share in shares) / len(shares)
        return 100 * 5 * precision * recall / (4 * precision + recall)

    text, reference = "Der Bus kommt heute nicht mehr", "Heute kommt der Bus nicht"
    assert character_overlap(text, reference) == pytest.approx(f2(text, reference))


def test_characters_are_found_inflected_and_missed_when_renamed() -> None:
    case = case_of("abtrift")
    people = [person.name for person in case.reference.characters]
    inflected = with_text(case.reference, [f"Das ist {' und '.join(f'{name}s' for name in people)} Ballon."])
    strangers = ["Uwe Krall", "Ina Senf", "Olaf Tann", "Gesa Most", "Tilo Barg", "Rena Fock", "Udo Lamm"]
    other = with_text(case.reference, [renamed(case.reference.text, people, strangers)])
    assert scores(case, inflected)["characters"] == 1.0
    assert scores(case, other)["characters"] == 0.0


def test_facts_are_recalled_by_another_text_of_the_story_and_not_by_other_stories() -> None:
    told = [fact_recall(case_of(name), analyse(EXAMPLES[id_].text)) for name, id_ in SAME_STORY.items()]
    strange = [
        fact_recall(case, analyse(text.synopsis.text))
        for case in CASES
        for text in good_texts()
        if text.brief.form == case.brief.form
    ]
    assert sum(filter(None, told)) / len(told) >= 0.8
    assert sum(filter(None, strange)) / len(strange) <= 0.1


def test_another_story_with_the_names_of_the_case_tells_few_facts() -> None:
    found = []
    for case in CASES:
        people = list(dict.fromkeys((*case.brief.characters, *(person.name for person in case.reference.characters))))
        for text in good_texts():
            if text.brief.form == case.brief.form:
                own = [person.name for person in text.synopsis.characters]
                found.append(fact_recall(case, analyse(renamed(text.synopsis.text, own, people))) or 0.0)
    assert sum(found) / len(found) <= 0.2


def test_the_less_of_a_reference_is_left_the_fewer_facts_it_tells() -> None:
    def mean(share: float) -> float:
        found = []
        for case in CASES:
            parts = [paragraph.text for paragraph in case.reference.paragraphs]
            left = "\n\n".join(parts[: max(1, round(len(parts) * share))])
            found.append(fact_recall(case, analyse(left)) or 0.0)
        return sum(found) / len(found)

    assert mean(0.1) < 0.5 < mean(0.5) < 0.8 < mean(1.0) == 1.0


def test_facts_are_unscored_where_the_case_has_none_that_words_can_find() -> None:
    case = CASES[0]
    strange = ("Ein Walfänger verkauft seine Harpune an das Museum.",)
    assert scores(replace(case, facts=()), case.reference)["facts"] is None
    assert scores(replace(case, facts=strange), case.reference)["facts"] is None


def test_length_ratio_is_words_over_words() -> None:
    case = CASES[0]
    twice = with_text(case.reference, [case.reference.text.replace("\n\n", " ")] * 2)
    assert scores(case, twice)["length_ratio"] == 2.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_ending_differs_once_the_last_question_is_answered_or_a_question_is_added(case: Case) -> None:
    parts = [paragraph.text for paragraph in case.reference.paragraphs]
    if built_in_house().form(case.brief.form).ending == "question":
        changed = [part.replace("?", ".") for part in parts]
    else:
        changed = [*parts[:-1], parts[-1] + " Ist das wirklich das Ende?"]
    assert scores(case, with_text(case.reference, changed))["ending"] == 0.0


def test_delta_is_smaller_for_texts_of_the_form_than_for_plain_or_clipped_ones() -> None:
    plain = "Der Arzt geht in das Zimmer. Er sieht die Frau. Die Frau ist krank und der Mann ist es auch. " * 12
    for form in FORMS:
        case = next(case for case in CASES if case.brief.form == form)
        own = [text.synopsis for text in good_texts() if text.brief.form == form]
        clipped = re.sub(r"\b(?:der|die|das|und|ein|eine|den|dem|in|mit)\b ", "", own[0].text)
        near = [scores(case, synopsis)["delta"] or 9.0 for synopsis in own]
        for far in (plain, clipped):
            assert (scores(case, with_text(own[0], [far[:3900]]))["delta"] or 0.0) > max(near)


def test_delta_is_zero_for_the_profile_itself_and_by_hand_elsewhere() -> None:
    texts = [("episode", ["der"] * (20 + step) + ["und"] * (40 - step)) for step in range(MIN_REFERENCES)]
    profile = FunctionWordProfile(texts)
    assert profile.distance(texts[2][1], "episode") == pytest.approx(0.0)
    # The share of `der` is 22/60 on average, and sqrt(2.5)/60 is its standard deviation.
    assert profile.distance(texts[4][1], "episode") == pytest.approx(2 / 2.5**0.5)


def test_delta_is_unscored_for_short_texts_unknown_forms_and_few_references() -> None:
    references = [(case.brief.form, lower_words(case.reference.text)) for case in CASES]
    words = references[0][1]
    episodes = [pair for pair in references if pair[0] == "episode"]
    assert FunctionWordProfile(references).distance(words[:49], "episode") is None
    assert FunctionWordProfile([*episodes, *episodes]).distance(words, "week") is None
    assert FunctionWordProfile(references[: MIN_REFERENCES - 1]).distance(words, references[0][0]) is None


def test_novelty_falls_with_the_longest_run_taken_from_an_example() -> None:
    case = CASES[0]
    source = EXAMPLES["rote-rosen/neun-blaue-stuehle"].text.split("\n\n")
    parts = [paragraph.text for paragraph in case.reference.paragraphs]
    copied = " ".join(source[0].split()[:15])
    some = scores(case, with_text(case.reference, [*parts, copied]))["novelty"]
    words = len(lower_words(" ".join([*parts, copied])))
    assert some == pytest.approx(1 - len(lower_words(copied)) / words)
    assert scores(case, EXAMPLES["rote-rosen/neun-blaue-stuehle"])["novelty"] == 0.0


def test_novelty_looks_at_examples_alone_and_is_unscored_without_any() -> None:
    case, workspace = CASES[0], references().workspace
    row = row_of(case, EXAMPLES["rote-rosen/neun-blaue-stuehle"])
    no_examples = replace(workspace, pool=replace(workspace.pool, examples=()))
    no_sources = replace(workspace, gate=replace(workspace.gate, sources=None))
    for other, value in ((no_examples, 1.0), (no_sources, None)):
        found = score(row, case, replace(references(), workspace=other)).scores
        assert found["novelty"] == value


def test_a_text_of_a_show_that_nobody_knows_is_scored() -> None:
    case = CASES[0]
    unknown = replace(case, brief=case.brief.model_copy(update={"show": "Am Deich"}))
    assert scores(unknown, case.reference)["characters"] == 1.0
