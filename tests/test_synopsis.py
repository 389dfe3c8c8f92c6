import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.synopsis import Outline, Synopsis, parse, wire_schema

ANSWER = {
    "title": "Der Ring",
    "logline": "Eine Goldschmiedin findet im Ring einer Braut einen fremden Namen.",
    "characters": [{"name": "Merle Vanlohen", "role": "Goldschmiedin"}],
    "paragraphs": [{"storyline": "A", "text": "Merle hält den Ring ans Licht und liest."}],
}
JSON = json.dumps(ANSWER, ensure_ascii=False)


@pytest.mark.parametrize(
    "answer",
    [
        JSON,
        f"```json\n{JSON}\n```",
        f"Gern, hier ist die Inhaltsangabe:\n\n{JSON}\n\nViel Freude damit!",
        json.dumps(JSON),
        JSON + "}}]]",
        "{kein JSON} " + JSON,
        JSON.replace("Licht und", "Licht\nund"),
        json.dumps(ANSWER, indent=4),
    ],
    ids=["bare", "fence", "prose", "encoded twice", "trailing", "leading", "line end in a string", "indented"],
)
def test_answers_that_can_be_read(answer: str) -> None:
    parsed = parse(answer, Synopsis)
    assert parsed.value is not None
    assert parsed.value.title == "Der Ring"
    assert parsed.value.text == "Merle hält den Ring ans Licht und liest."


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "the answer is empty"),
        ("Es war einmal.", "no JSON object"),
        (JSON[:-30], "the JSON is cut off"),
        ("[1, 2]", "no JSON object"),
        ("{}", "title: field required"),
        (json.dumps({**ANSWER, "title": ""}), "title: is 0 characters long"),
        (json.dumps({**ANSWER, "title": "x" * 91}), "title: is 91 characters long"),
        (json.dumps({**ANSWER, "paragraphs": []}), "paragraphs"),
        (json.dumps({**ANSWER, "paragraphs": [{"storyline": "D", "text": "x" * 20}]}), "paragraphs.0.storyline"),
        (json.dumps({**ANSWER, "logline": "a\u200bb" * 20}), "U+200B"),
    ],
)
def test_answers_that_cannot_be_read_say_why(answer: str, problem: str) -> None:
    parsed = parse(answer, Synopsis)
    assert parsed.value is None
    assert problem in parsed.problem
    assert "\n" not in parsed.problem


def test_a_synopsis_reads_back_what_it_gives() -> None:
    first = parse(JSON, Synopsis).value
    assert first is not None
    assert parse(first.as_json(), Synopsis).value == first


@given(st.text(max_size=400))
def test_no_answer_makes_the_parse_raise(answer: str) -> None:
    parsed = parse(answer, Synopsis)
    assert (parsed.value is None) == bool(parsed.problem)


@pytest.mark.parametrize("answer", ["{" * 20_000, '{"a":' * 20_000, "[" * 50_000, '"' + "{" * 9_000])
def test_hostile_nesting_is_refused_quickly(answer: str) -> None:
    assert parse(answer, Synopsis).value is None


@pytest.mark.parametrize("shape", [Synopsis, Outline])
def test_the_wire_schema_is_plain(shape: type[Synopsis] | type[Outline]) -> None:
    schema = json.dumps(wire_schema(shape))
    assert not any(word in schema for word in ("minLength", "maxLength", "pattern", "minItems", "default"))
    for definition in [wire_schema(shape), *wire_schema(shape)["$defs"].values()]:
        assert definition["additionalProperties"] is False
        assert sorted(definition["required"]) == sorted(definition["properties"])
