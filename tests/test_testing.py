from pathlib import Path
from typing import Any

import pytest

from synopsis_writer import testing
from synopsis_writer.errors import ConnectionFailedError
from synopsis_writer.examples import load_example
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.synopsis import Synopsis, parse
from synopsis_writer.testing import ScriptedClient, synopsis_json

CORPUS = Path(__file__).parent / "corpus" / "good"
GOOD = load_example(CORPUS / "rote-rosen" / "der-weisse-hund.md")
ASK = [Message("user", "Schreibe.")]


async def test_a_scripted_client_answers_in_order_and_remembers_what_it_was_asked() -> None:
    whole = Answer("halb", finish="length")
    client = ScriptedClient(["Ja.", whole, ConnectionFailedError("fort")], name="m")
    as_protocol: ModelClient = client
    first = await as_protocol.complete(ASK, {"type": "object"}, Limits(max_tokens=7))
    assert (first.text, first.finish, first.model, first.usage.completion_tokens) == ("Ja.", "stop", "m", 50)
    assert await client.complete(ASK, None, Limits()) is whole
    with pytest.raises(ConnectionFailedError, match="fort"):
        await client.complete(ASK, None, Limits())
    assert [one.messages for one in client.calls] == [tuple(ASK)] * 3
    assert (client.calls[0].schema, client.calls[0].limits.max_tokens) == ({"type": "object"}, 7)
    assert client.left == 0


async def test_a_script_that_is_used_up_says_so() -> None:
    client = ScriptedClient(["Ja."])
    await client.complete(ASK, None, Limits())
    with pytest.raises(AssertionError, match="call 2 to 'scripted', but its script has 1 answers"):
        await client.complete(ASK, None, Limits())
    assert not client.closed
    await client.close()
    assert client.closed


@pytest.mark.parametrize("story", [GOOD, GOOD.synopsis])
def test_an_example_makes_its_own_answer(story: Any) -> None:
    assert parse(synopsis_json(story), Synopsis).value == GOOD.synopsis


def test_a_text_makes_a_valid_answer_with_the_fields_that_are_given() -> None:
    made = parse(synopsis_json("Der erste Absatz.\n\n\n\nDer zweite Absatz.\n", title="Zwei"), Synopsis).value
    assert made is not None
    assert made.title == "Zwei"
    assert [paragraph.text for paragraph in made.paragraphs] == ["Der erste Absatz.", "Der zweite Absatz."]
    with pytest.raises(ValueError, match="paragraphs"):
        synopsis_json("")


def test_the_exported_names_are_these() -> None:
    assert testing.__all__ == ["Call", "ScriptedClient", "synopsis_json"]
    assert all(hasattr(testing, name) for name in testing.__all__)
