"""What models and servers really answer, and what is read in it: whole, streamed, and in every command."""

import csv
import json
import re
import sqlite3
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.answers import find_objects, is_closed, without_thoughts
from synopsis_writer.cli.console import story
from synopsis_writer.errors import ConnectionFailedError
from synopsis_writer.models.base import Answer, Limits, Message, answer_data, bill
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.pricing import HostedPricer, PriceTable
from synopsis_writer.models.resolve import CACHE_FILE
from synopsis_writer.models.responses import StreamedAnswer, read_answer
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.settings import load_settings
from synopsis_writer.synopsis import Outline, Parsed, Synopsis, parse
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.usage import Usage
from synopsis_writer.writer import Writer
from tests.support.house import House, row_of
from tests.support.loopback import Body, CutBody, Events, Fault, LoopbackServer, Reply, Step, event
from tests.support.provider import BatchServer
from tests.support.terminal import ANSWER, CLOSED, GOOD, ORDER, Terminal, saved
from tests.test_facade import FIELDS, PLAN
from tests.test_synopsis import ANSWER as FEW
from tests.test_synopsis import JSON

DRAFT = CLOSED.replace(GOOD.synopsis.title, "Der Entwurf")
EMPTY = {"role": "assistant", "content": ""}
LIMITS = Limits(timeout=10)
ASK = [Message("user", "Schreibe.")]


def call(arguments: Any) -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}


# Each holds ANSWER, and nothing of it may be lost or misread. DRAFT is not the answer.
THOUGHTS = {
    "think": f"<think>Erst ein Plan. {DRAFT}</think>\n\n{ANSWER}",
    "thinking": f"<thinking>\n{DRAFT}\n</thinking>{ANSWER}",
    "reasoning, in capitals": f"<REASONING>{DRAFT}</Reasoning >\n{ANSWER}",
    "with attributes and a namespace": f'<seed:think time="3">{DRAFT}</seed:think>{ANSWER}',
    "German": f"<gedanken>{DRAFT}</gedanken>{ANSWER}",
    "escaped": f"&lt;think&gt;{DRAFT}&lt;/think&gt;{ANSWER}",
    "lone end": f"Erst ein Plan. {DRAFT}\n</think>\n{ANSWER}",
    "lone end in capitals": f"{DRAFT}</THINK>{ANSWER}",
    "two": f"<think>Hm.</think>\n{DRAFT}\n<think>Besser:</think>\n{ANSWER}",
    "unfinished draft inside": f'<think>Ich beginne mit {{"title": "Der</think>{ANSWER}',
    "a mark named inside": f"<think>Nach </think> kommt: {DRAFT}</think>{ANSWER}",
    "harmony": f"<|channel|>analysis<|message|>Wir brauchen JSON. {DRAFT}<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{ANSWER}<|return|>",
    "harmony, constrained": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final <|constrain|>json"
    f"<|message|>{ANSWER}",
    "harmony without marks": f"analysisWir brauchen JSON. {DRAFT}assistantfinal{ANSWER}",
    "with pipes": f"<|thinking|>{DRAFT}<|/thinking|>{ANSWER}",
    "Mistral": f"[THINK]{DRAFT}[/THINK]{ANSWER}",
    "Kimi": f"◁think▷{DRAFT}◁/think▷{ANSWER}",
    "Cohere": f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    "Gemma": f"<|channel>thought\n{DRAFT}<channel|>{ANSWER}",
    "in other words": f"<thought_process>{DRAFT}</thought_process>{ANSWER}",
    "by another name": f"<chain-of-reasoning>{DRAFT}</chain-of-reasoning >{ANSWER}",
    "cot": f"<cot>{DRAFT}</cot>{ANSWER}",
    "Nachdenken": f"<Nachdenken>{DRAFT}</Nachdenken>{ANSWER}",
    "a number at both ends": f"<think id=1>{DRAFT}</think id=1>{ANSWER}",
    "DeepSeek's marks": f"<think>{DRAFT}<｜end▁of▁thinking｜>{ANSWER}",
    "wide letters": f"＜think＞{DRAFT}＜/think＞{ANSWER}",
    "two pipes": f"<||think||>{DRAFT}<||/think||>{ANSWER}",
    "Apertus": f"<|inner_prefix|>{DRAFT}<|inner_suffix|>{ANSWER}",
    "empty": f"<think />{ANSWER}",
    "behind the answer": f"{ANSWER}\n<think>Habe ich alles?</think>",
    "behind it, without an end": f"{ANSWER}\n<think>Habe ich alles?",
    "never ended": f"<think>\n{ANSWER}",
    "nothing else": f"<think>Plan.\n{ANSWER}</think>",
    "no marks": f"Ich denke: {DRAFT}\nDas ist zu kurz.\n\n{ANSWER}",
}
WRAPPED = {
    "pairs of braces": "So: " + "{} {Titel} {Name: Rolle} " * 60 + ANSWER,
    "a fence after a fence": f"Entwurf:\n```json\n{DRAFT}\n```\nFassung:\n```json\n{ANSWER}\n```",
    "a broken draft in a fence": f"```json\n{DRAFT[:200]}\n```\nNoch einmal:\n```json\n{ANSWER}\n```",
    "an example before": f'Die Form ist {{"title": "…", "logline": …}}.\n\n{ANSWER}',
    "a remark behind": f'{ANSWER}\n{{"confidence": 0.9}}',
    "a brace left open behind": f"{ANSWER}\n\nHinweis {{",
    "a mark of order": f"\ufeff{ANSWER}",
    "in a key": json.dumps({"synopsis": json.loads(ANSWER)}),
    "in two": json.dumps({"result": {"answer": json.loads(ANSWER)}, "confidence": 1}),
    "as a text in a key": json.dumps({"answer": ANSWER}),
    "in a list": f"[{ANSWER}]",
    "in a list in a key": json.dumps({"answers": [json.loads(ANSWER)]}),
    "encoded twice": json.dumps(ANSWER),
    "quotes escaped": json.dumps(ANSWER)[1:-1],
    "quotes and lines escaped": json.dumps(json.dumps(json.loads(ANSWER), indent=2))[1:-1],
    "more keys": json.dumps({**json.loads(ANSWER), "genre": "Drama", "words": 350}),
    "keys in capitals": ANSWER.replace('"title"', '"Title"').replace('"text"', '"TEXT"'),
    "small letters": ANSWER.replace('"storyline": "A"', '"storyline": "a"'),
    "named storylines": ANSWER.replace('"storyline": "A"', '"storyline": "Handlung A"'),
    "storylines in brackets": re.sub(r'"storyline": "(.)"', r'"storyline": "(\1)"', ANSWER),
    "storylines in bold": re.sub(r'"storyline": "(.)"', r'"storyline": "**\1**"', ANSWER),
    "people as lines": json.dumps(
        {**json.loads(ANSWER), "characters": [f"{person.name} ({person.role})" for person in GOOD.synopsis.characters]}
    ),
    "people as a list": json.dumps(
        {**json.loads(ANSWER), "characters": [f"- {person.name}: {person.role}" for person in GOOD.synopsis.characters]}
    ),
    "people as keys": json.dumps(
        {**json.loads(ANSWER), "characters": {one.name: one.role for one in GOOD.synopsis.characters}}
    ),
}
REPAIRED = {
    "comma before a brace": f"{ANSWER[:-1]},}}",
    "comma before brackets": ANSWER.replace("]", ",]").replace('"}', '", }'),
    "no comma after braces": ANSWER.replace("}, {", "}\n{"),
    "single quotes round keys": ANSWER.replace('"title":', "'title':").replace('"text":', "'text':"),
    "no quotes round keys": re.sub(r'"(\w+)":', r"\1:", ANSWER),
    "Python": str(json.loads(ANSWER) | {"done": True, "notes": None}),
    "a comment in a line": ANSWER.replace('"title"', '// der Titel, "neu"\n"title"'),
    "a comment": ANSWER.replace('"logline"', '/* kurz, "neu" */ "logline"'),
    "a comment of a shell": ANSWER.replace('"title"', '# der Titel, "neu"\n"title"'),
    "two commas": ANSWER.replace('", "', '",, "').replace("}, {", "},, {"),
    "a comma first": ANSWER.replace("{", "{,", 1).replace("[", "[,", 1),
    "JavaScript": f'{ANSWER[:-1]}, "notes": undefined}}',
    "names in capitals": f'{ANSWER[:-1]}, "done": TRUE, "notes": NULL}}',
    "no-break spaces": ANSWER.replace('": ', '":\u00a0'),
    "fenced": f"```json\n{ANSWER[:-1]},\n}}\n```",
}


@pytest.mark.parametrize("name", [*THOUGHTS, *WRAPPED, *REPAIRED])
def test_the_answer_is_read(name: str) -> None:
    text = (THOUGHTS | WRAPPED | REPAIRED)[name]
    parsed = parse(Answer(text).content, Synopsis)
    assert (parsed.value, parsed.problem) == (GOOD.synopsis, "")


QUOTES = {
    'Sie ruft „Halt", und er bleibt stehen.': 'Sie ruft „Halt", und er bleibt stehen.',
    'Sie ruft „Halt"': 'Sie ruft „Halt"',
    'Er sagt: „Ja", „Nein" und „Vielleicht".': 'Er sagt: „Ja", „Nein" und „Vielleicht".',
    'Er nennt sie "Maus".': 'Er nennt sie "Maus".',
    '"Komm", sagt sie, "sofort!"': '"Komm", sagt sie, "sofort!"',
    "Zeile eins\nund\tzwei": "Zeile eins und zwei",
    "Er sagt \\'Nein\\'.": "Er sagt 'Nein'.",
    "Der Hund \\ud83d\\udc36 bellt.": "Der Hund 🐶 bellt.",
    "Im Text steht </think> und {das}.": "Im Text steht </think> und {das}.",
    "https://example.org // kein Kommentar": "https://example.org // kein Kommentar",
}


@pytest.mark.parametrize("written", QUOTES)
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("key", ["logline", "text"])
def test_quotes_inside_a_text_stay_in_it(written: str, broken: bool, key: str) -> None:
    logline = "Eine Goldschmiedin findet im Ring einer Braut einen fremden Namen."
    before = logline if key == "logline" else "Merle hält den Ring ans Licht und liest."
    text = JSON.replace(before, f"{written} Ende, immer.")
    parsed = parse(f"{text[:-1]},}}" if broken else text, Synopsis)
    assert parsed.value is not None, parsed.problem
    value = parsed.value.logline if key == "logline" else parsed.value.text
    assert value == QUOTES[written] + " Ende, immer."


@pytest.mark.parametrize(
    "mark", ["</think>", "<think>", "[/THINK]", "◁/think▷", "<|channel|>final<|message|>", "</reasoning>"]
)
def test_a_mark_inside_the_answer_cuts_nothing_off(mark: str) -> None:
    text = JSON.replace("liest.", f"liest {mark} laut.")
    for answer in (text, f"<think>Hm.</think>{text}", f"Plan: {JSON}</think>\n{text}", f"{text[:-1]},}}"):
        parsed = parse(Answer(answer).content, Synopsis)
        assert parsed.value is not None
        assert parsed.value.text.endswith(f"liest {mark} laut.")


BROKEN = [
    ('{"title": "Der Ring", "logline" "Eine Frau findet", "characters": []}', "line 1, column 20, near"),
    (JSON.replace('"logline":', '\n"logline":').replace('"name":', '"name"'), "line 2, column "),
    (JSON.replace('"Der Ring",', '"Der Ring,'), 'near …"Der Ring, "logline": "Eine'),
    (JSON.replace("Licht", '15"'), "write a straight quote inside a text as"),
    (JSON.replace('"Goldschmiedin"', "Goldschmiedin"), "the JSON breaks at line 1, column "),
    (JSON.replace('"A"', "A"), "the JSON breaks at line 1, column "),
    (JSON.replace('"text":', '"text":,'), "the JSON breaks at line 1, column "),
    (JSON.replace("ans", "\\ans"), "the JSON breaks at line 1, column "),
    (JSON.replace('"logline": "', '"logline": "" + "'), "the JSON breaks at line 1, column "),
    (JSON.replace('"logline": "', '"logline": """'), "the JSON breaks at line 1, column "),
    (JSON[:-1] + ', "number": 07,}', "the JSON breaks at line 1, column "),
    (JSON.replace('"title":', "«title»:"), "the JSON breaks at line 1, column 2, near"),
    (JSON.replace('"title":', "title ="), "the JSON breaks at line 1, column 2, near"),
    (JSON.replace('"title":', "`title`:"), "the JSON breaks at line 1, column 2, near"),
    (JSON[:-2], "the JSON is cut off"),
    (JSON[:-30], "the JSON is cut off"),
    (f"```json\n{JSON[:-3]}\n```", "the JSON is cut off"),
    (JSON + '\n{"title": "Besser", "logline": "x" y}', "the JSON breaks at line 2, column "),
    (JSON + '\n{"title": "Besser", "logline', "the JSON is cut off"),
    (json.dumps({"synopsis": {**FEW, "title": ""}}), "title: is 0 characters long"),
    (json.dumps({**FEW, "paragraphs": [{"storyline": "A und B", "text": "x" * 20}]}), "paragraphs.0.storyline"),
    (json.dumps({**FEW, "characters": [{"name": "Merle"}]}), "characters.0.role: field required"),
    (json.dumps({**FEW, "characters": []}), "characters: has 0 entries, 1 at least are needed"),
    (json.dumps({**FEW, "paragraphs": "Text"}), "paragraphs: is not a list"),
    (json.dumps({**FEW, "title": 7}), "title: is not a text"),
    (f"<think>{JSON}</think>\nDas kann ich nicht.", "holds no JSON object"),
]


@pytest.mark.parametrize(("answer", "problem"), BROKEN, ids=range(len(BROKEN)))
def test_what_cannot_be_read_in_one_way_only_says_where_it_breaks(answer: str, problem: str) -> None:
    parsed = parse(Answer(answer).content, Synopsis)
    assert parsed.value is None
    assert problem in parsed.problem
    assert "\n" not in parsed.problem
    assert len(parsed.problem) < 200


def test_no_inner_object_of_a_truncated_answer_is_taken_for_the_answer() -> None:
    for end in range(1, len(JSON)):
        assert parse(JSON[:end], Synopsis) == Parsed(None, "the JSON is cut off"), JSON[:end]


@pytest.mark.parametrize("letter", '"{}[],:')
def test_a_letter_too_much_never_loses_or_invents_words(letter: str) -> None:
    for at in range(1, len(JSON)):
        value = parse(JSON[:at] + letter + JSON[at:], Synopsis).value
        if value is not None:
            words = "".join(value.as_json().split()).replace("\\", "")
            assert sorted(words.replace(letter, "")) == sorted("".join(JSON.split()).replace(letter, ""))


def test_a_letter_that_is_missing_never_makes_a_key_a_part_of_a_text() -> None:
    for at in range(1, len(JSON) - 1):
        value = parse(JSON[:at] + JSON[at + 1 :], Synopsis).value
        if value is not None:
            texts = (value.title, value.logline, value.text)
            assert not any(f'{key}"' in text for key in FEW for text in texts)


@given(st.text(st.sampled_from("{}[]\",:\\'„“/* \nab<>think/|")))
def test_nothing_makes_the_reader_raise(text: str) -> None:
    for answer in (text, "{" + text, f"<think>{text}</think>{JSON}", f'{{"title": "{text}'):
        assert isinstance(find_objects(answer), list)
        assert isinstance(story(answer) + without_thoughts(answer, is_cut=True), str)
        assert is_closed(answer) in {True, False}


@pytest.mark.parametrize(
    "answer",
    ["{" * 30_000, '{"a":' * 20_000, '{"a": "</think>' * 5000, "<think>" * 20_000, '{"a": "x" y' * 5000,
     '{"a": "' + '"x' * 20_000, '{"a": ' + "/* " * 10_000, '{"a": "x"' + "//" * 20_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_answers_are_read_in_no_more_steps_than_they_have_letters(answer: str) -> None:
    assert parse(Answer(answer).content, Synopsis).value is None


@pytest.mark.parametrize("padding", ["", "\n" * 500, " \t" * 300, "\n```", "\n\nIch habe dar"])
@pytest.mark.parametrize("before", ["", "<think>Hm.</think>", "Gern:\n```json\n"])
def test_an_answer_whose_json_is_closed_is_not_truncated(before: str, padding: str) -> None:
    answer = Answer(before + ANSWER + padding, "length")
    assert not answer.is_truncated
    assert parse(answer.content, Synopsis).value == GOOD.synopsis


@pytest.mark.parametrize(
    "text", ["", "\n\n", "<think>Hm.", f"<think>{ANSWER}", "<think>Hm.</think>\n", f"[THINK]{DRAFT} Zu kurz"]
)
def test_thoughts_that_took_all_tokens_have_no_answer(text: str) -> None:
    answer = Answer(text, "length")
    assert answer.is_truncated
    assert answer.is_spent_on_thinking
    assert story(text) == ""


@pytest.mark.parametrize("text", [ANSWER[:-1], f"{DRAFT}\n{ANSWER[:300]}", "{}", "Es war"])
def test_an_answer_that_is_not_closed_is_truncated(text: str) -> None:
    assert Answer(text, "length").is_truncated
    assert not Answer(text, "length").is_spent_on_thinking
    assert not Answer(text).is_truncated


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ('<think>{"title": "Der Entwurf"', ""),
        ('<think>{"title": "Der Entwurf"}</think>', ""),
        ('<think>{"title": "Der Entwurf"}</think>{"title": "Der H', "Der H"),
        ('{} {x} {"title": "Der H', "Der H"),
        ('```json\n{"title": "Der Entwurf"}\n```\n```json\n{"title": "Der H', "Der H"),
    ],
)
def test_the_growing_picture_shows_the_answer_alone(answer: str, shown: str) -> None:
    assert story(answer) == shown


def test_people_as_plain_names_are_taken() -> None:
    names = ["Gesa Meinecke (Schäferin)", "Jo Kann: Wirt", "Al Berg – Hirt", "Lu Berg"]
    parsed = parse(json.dumps({**FEW, "characters": names}), Synopsis)
    assert parsed.value is not None
    assert [(person.name, person.role) for person in parsed.value.characters] == [
        ("Gesa Meinecke", "Schäferin"),
        ("Jo Kann", "Wirt"),
        ("Al Berg", "Hirt"),
        ("Lu Berg", "ohne Angabe"),
    ]


PLACES: dict[str, dict[str, Any]] = {
    "reasoning_content": {**EMPTY, "reasoning_content": f"Plan. {ANSWER}"},
    "reasoning": {"content": None, "reasoning": ANSWER},
    "reasoning beside thoughts": {"content": "<think>Hm.</think>", "reasoning": ANSWER},
    "reasoning details": {
        "content": None,
        "reasoning_details": [{"type": "reasoning.text", "text": ANSWER, "index": 0}],
    },
    "reasoning in parts": {"content": None, "reasoning": [{"type": "text", "text": ANSWER}]},
    "tool call": call(ANSWER),
    "tool call as an object": call(json.loads(ANSWER)),
    "tool call after words": {**call(ANSWER), "content": "Gern!"},
    "parts": {"content": [{"type": "thinking", "thinking": DRAFT}, {"type": "text", "text": ANSWER}]},
    "output parts": {"content": [{"type": "output_text", "text": ANSWER}]},
    "parts without a type": {"content": [{"text": DRAFT, "thought": True}, {"text": ANSWER}]},
    "parts without a name": {"content": [ANSWER[:90], ANSWER[90:]]},
    "parts of contents": {"content": [{"type": "text", "content": ANSWER}]},
    "one part": {"content": {"type": "text", "text": ANSWER}},
    "thinking": {**EMPTY, "thinking": ANSWER},
    "function call": {"content": None, "function_call": {"name": "answer", "arguments": ANSWER}},
    "parts with a value": {"content": [{"type": "text", "text": {"value": ANSWER}}]},
    "odd fields": {
        "content": ANSWER,
        "reasoning": 7,
        "tool_calls": [None, {"function": [1]}, {"function": {"arguments": [1]}}],
    },
    "an empty reasoning_content": {**EMPTY, "reasoning_content": "", "reasoning": ANSWER},
    "thoughts in their own field": {"content": ANSWER, "reasoning_content": DRAFT, "tool_calls": None},
}
ENDS = {
    "length, closed": Reply(ANSWER, "length"),
    "length, padded": Reply(ANSWER + "\n" * 400, "length"),
    "MAX_TOKENS, closed": Reply(ANSWER, "MAX_TOKENS"),
    "tool_calls": Reply("", "tool_calls", message=call(ANSWER)),
    "end_turn": Reply(ANSWER, "end_turn"),
    "STOP": Reply(ANSWER, "STOP"),
}
# One of each: what goes through the commands below.
KINDS: list[Reply] = [
    *map(Reply, (THOUGHTS | WRAPPED | REPAIRED).values()),
    *(Reply("", message=message) for message in PLACES.values()),
    *ENDS.values(),
]


async def ask(step: Step, *, streamed: bool, retries: int = 0) -> Answer:
    async def sleep(_: float) -> None:
        pass

    seen: list[str] = []
    policy = RetryPolicy(retries, sleep=sleep)
    with LoopbackServer([step, Reply(ANSWER)]) as server:
        client = HostedClient("m", server.base_url, retry=policy, on_text=seen.append if streamed else None)
        answer = await client.complete(ASK, None, LIMITS)
        await client.close()
    return answer


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", PLACES)
async def test_the_answer_is_found_wherever_the_server_puts_it(name: str, streamed: bool) -> None:
    answer = await ask(Reply("", message=PLACES[name]), streamed=streamed)
    assert parse(answer.content, Synopsis).value == GOOD.synopsis
    assert answer.finish == "stop"


@pytest.mark.parametrize("streamed", [False, True])
async def test_truncated_thoughts_are_not_an_answer(streamed: bool) -> None:
    message = {**EMPTY, "reasoning_content": f"Ein Entwurf: {DRAFT} Das ist"}
    answer = await ask(Reply("", "length", message=message), streamed=streamed)
    assert (answer.text, answer.is_spent_on_thinking) == ("", True)


MEANINGS = {
    "length": ["length", "MAX_TOKENS", "max_tokens", "max_output_tokens", "FINISH_REASON_MAX_TOKENS",
               "max_tokens_reached", "FinishReason.MAX_TOKENS", "MaxTokens", "length_limit", "output_limit",
               "context_window_exceeded", "out_of_tokens"],
    "filter": ["content_filter", "content-filter", "SAFETY", "FINISH_REASON_SAFETY", "RECITATION",
               "IMAGE_SAFETY", "content_blocked", "moderation_blocked", "policy_violation"],
    "stop": ["stop", "STOP", "eos", "end_turn", "stop_sequence", "tool_calls"],
    "refusal": ["refusal", "refused"],
}  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("reason", "finish"), [(reason, finish) for finish, reasons in MEANINGS.items() for reason in reasons]
)
async def test_the_end_is_read_as_what_it_means(reason: str, finish: str, streamed: bool) -> None:
    assert (await ask(Reply("Es war", reason), streamed=streamed)).finish == finish


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "reason",
    ["error", "ERROR", "network_error", "abort", "failure", "canceled", "server_shutdown", "MALFORMED_FUNCTION_CALL"],
)
async def test_a_finish_reason_of_error_is_a_failed_call_that_is_retried(reason: str, streamed: bool) -> None:
    answer = await ask(Reply(ANSWER[:300], reason), streamed=streamed, retries=1)
    assert (answer.text, answer.usage) == (ANSWER, Usage(200, 100))
    with pytest.raises(ConnectionFailedError, match="failed in the middle of the answer: try again"):
        await ask(Reply(ANSWER[:300], reason), streamed=streamed)


def chunk(delta: Any, finish: str | None = None, **more: Any) -> str:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]})


WORDS = {"content": "Ja, gern."}
STREAMS = {
    "bare data lines": f"data:\n\ndata\n\n{chunk(WORDS)}data:\n\n{chunk({}, 'stop')}data: \n\n",
    "no blank lines": (chunk(WORDS) + chunk({}, "stop") + "data: [DONE]\n").replace("\n\n", "\n"),
    "no index": event({"choices": [{"index": None, "delta": WORDS, "finish_reason": "stop"}]}),
    "an index that is a text": chunk(WORDS, "stop", index="0"),
    "a message": event({"choices": [{"message": WORDS, "finish_reason": "stop"}]}),
    "events that are none": "".join(map(event, [None, 1, "OK", [], {"choices": [None]}])) + chunk(WORDS, "stop"),
    "an event that is a word": "data: ping\n\n" + chunk(WORDS, "stop"),
    "delta is a text": chunk("") + chunk(WORDS) + chunk("", "stop"),
    "delta is null": chunk(None) + chunk(WORDS) + chunk(None, "stop"),
    "a mark of order": "\ufeff" + chunk(WORDS, "stop"),
    "a mark of order in each line": chunk(WORDS, "stop").replace("data: ", "\ufeffdata: "),
    "an end that is empty at first": chunk(WORDS, "") + chunk({}, "stop"),
    "parts": chunk({"content": [{"type": "output_text", "text": "Ja, gern."}]}, "stop"),
    "not a stream, with a mark of order": "\ufeff" + json.dumps({"choices": [{"message": WORDS}]}),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", STREAMS)
async def test_an_unusual_stream_is_read(name: str, end: str) -> None:
    answer = await ask(Events(STREAMS[name].replace("\n", end)), streamed=True)
    assert (answer.text, answer.finish) == ("Ja, gern.", "stop")


WHOLE: dict[str, Step] = {
    "a body": CutBody(json.dumps(Reply(ANSWER).as_data("m"))),
    "a stream": Events("".join(Reply(ANSWER).as_events("m", usage=True)[:-3]), is_cut=True),
    "a stream that ends": Events(chunk({"content": ANSWER})),
    "a stream with thoughts": Events(chunk({"content": f"<think>{DRAFT}</think>{ANSWER}"}), is_cut=True),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_that_came_whole_is_not_lost_with_its_connection(name: str, streamed: bool) -> None:
    answer = await ask(WHOLE[name], streamed=streamed)
    assert parse(answer.content, Synopsis).value == GOOD.synopsis


@pytest.mark.parametrize("text", [ANSWER[:-1], f"<think>{DRAFT}", f"{DRAFT}\n{ANSWER[:99]}", "Es war einmal."])
async def test_what_came_in_part_is_asked_for_again(text: str) -> None:
    for end in (True, False):
        answer = await ask(Events(chunk({"content": text}), is_cut=end), streamed=True, retries=1)
        assert answer.text == ANSWER


def test_letters_of_another_encoding_are_read() -> None:
    body = json.dumps(Reply(ANSWER).as_data("m"), ensure_ascii=False)
    assert read_answer(body.encode("cp1252"), "application/json", 0.0, "m").text == ANSWER
    damaged = read_answer(body.encode().replace("ß".encode(), b"\xff", 1), "application/json", 0.0, "m").text
    assert damaged == ANSWER.replace("ß", "\ufffd", 1)


async def test_of_several_choices_the_first_by_its_number_counts() -> None:
    choices = [{"index": 1, "message": {"content": "Nein."}}, {"index": 0, "message": WORDS}]
    assert (await ask(Body({"choices": choices}), streamed=False)).text == "Ja, gern."


def test_a_stream_without_blank_lines_grows_and_ends_at_once() -> None:
    streamed = StreamedAnswer()
    streamed.feed(chunk({"content": "Ja"}).replace("\n\n", "\n").encode())
    assert streamed.text == ""
    streamed.feed(chunk({"content": "."}).replace("\n\n", "\n").encode())
    assert streamed.text == "Ja"
    streamed.feed(b"data: [DONE]\n")
    assert (streamed.text, streamed.is_done) == ("Ja.", True)


async def test_pieces_of_a_tool_call_and_of_thoughts_are_joined_in_a_stream() -> None:
    pieces = [ANSWER[start : start + 7] for start in range(0, len(ANSWER), 7)]
    for deltas in ([call(text) for text in pieces], [{"reasoning_content": text} for text in pieces]):
        stream = "".join(map(chunk, deltas)) + "data: [DONE]\n\n"
        answer = await ask(Events(stream), streamed=True)
        assert (answer.text, answer.finish) == (ANSWER, "stop")


CANNOT_FINISH = Fault(
    400,
    message="Could not finish the message because max_tokens or model output limit was reached. "
    "Please try again with higher max_tokens.",
)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_server_that_could_not_finish_truncated_the_answer(streamed: bool) -> None:
    answer = await ask(CANNOT_FINISH, streamed=streamed)
    assert (answer.text, answer.finish) == ("", "length")


def cases() -> list[dict[str, Any]]:
    path = Path(__file__).parent / "cases" / "usage.yaml"
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["kind"])
async def test_each_kind_of_usage_means_its_tokens(case: dict[str, Any], streamed: bool) -> None:
    body = {"choices": [{"message": WORDS, "finish_reason": "stop"}], "usage": case["usage"]}
    last = {"choices": [], "usage": case["usage"]}
    step: Step = Events(chunk(WORDS, "stop") + event(last)) if streamed else Body(body)
    answer = await ask(step, streamed=streamed)
    means = case["means"]
    counts = {} if means == "unknown" else {f"{name}_tokens": count for name, count in means.items()}
    expected = Usage(**counts)
    assert answer.usage == expected
    assert (HostedPricer("gpt-5.6-luna").cost(answer.usage) is None) == (means == "unknown")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 50}},
         Usage(9, 57, thinking_tokens=50)),
        ({"completion_tokens": 900, "total_tokens": 6900}, Usage(6000, 900)),
        ({"prompt_tokens": 6000.0, "completion_tokens": True, "total_tokens": "viel"}, Usage(6000)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -3}},
         Usage(9, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": 7, "total_tokens": 1},
         Usage(9, 5)),
        ({"prompt_tokens": float("inf"), "completion_tokens": 5}, Usage(0, 5)),
        ({"total_tokens": 100}, Usage()),
        ({"prompt_tokens": 9, "completion_tokens": 5, "cached_tokens": 4}, Usage(9, 5, 4)),
        # Anthropic's own counts: what the cache read and wrote stands beside the rest of the prompt.
        ({"input_tokens": 500, "cache_read_input_tokens": 4000, "cache_creation_input_tokens": 1500,
          "output_tokens": 900}, Usage(6000, 900, 4000, 1500)),
        ({"input_tokens": 9, "output_tokens": 5, "cache_read_input_tokens": 0}, Usage(9, 5)),
        # The same through a gateway that renames only some.
        ({"prompt_tokens": 500, "cache_read_input_tokens": 4000, "cache_creation_input_tokens": 1500,
          "completion_tokens": 900, "total_tokens": 6900}, Usage(6000, 900, 4000, 1500)),
        ({"prompt_tokens": "6000", "completion_tokens": "900", "total_tokens": "?"}, Usage(6000, 900)),
        ({"promptTokens": 6000, "completionTokens": 900, "promptTokensDetails": {"cachedTokens": 512}},
         Usage(6000, 900, 512)),
        ({"promptTokenCount": 6000, "candidatesTokenCount": 700, "thoughtsTokenCount": 2000,
          "totalTokenCount": 8700, "cachedContentTokenCount": 512}, Usage(6000, 2700, 512, 0, 2000)),
        ({"prompt_eval_count": 6000, "eval_count": 900}, Usage(6000, 900)),
    ],
)  # fmt: skip
async def test_one_odd_number_never_loses_the_rest(usage: Any, expected: Usage) -> None:
    body = {"choices": [{"message": WORDS, "finish_reason": "stop"}], "usage": usage}
    assert (await ask(Body(body), streamed=False)).usage == expected


@pytest.mark.parametrize(
    "counts",
    [
        [{"input_tokens": 6000, "output_tokens": 1}, {"output_tokens": 900}],
        [{"prompt_tokens": 6000, "completion_tokens": 900}, {"prompt_tokens": 0, "completion_tokens": 0}],
        [{"prompt_tokens": 6000, "completion_tokens": n, "total_tokens": 6000 + n} for n in (0, 450, 900)],
    ],
    ids=str,
)
async def test_counts_in_several_events_of_a_stream_are_one_usage(counts: list[Any]) -> None:
    events = "".join(event({"choices": [], "usage": usage}) for usage in counts)
    answer = await ask(Events(chunk(WORDS) + chunk({}, "stop") + events), streamed=True)
    assert answer.usage == Usage(6000, 900)


async def test_counts_inside_the_last_choice_of_a_stream_are_read() -> None:
    usage = {"prompt_tokens": 6000, "completion_tokens": 900, "cached_tokens": 512}
    answer = await ask(Events(chunk(WORDS) + chunk({}, "stop", usage=usage)), streamed=True)
    assert answer.usage == Usage(6000, 900, 512)


def test_cache_writes_are_priced() -> None:
    fresh, written = Usage(1_000_000), Usage(1_000_000, written_tokens=1_000_000)
    for model, factor in (("gpt-5.6-luna", Decimal("1.25")), ("gpt-5.4-mini", Decimal(1))):
        pricer = HostedPricer(model)
        before, after = pricer.cost(Usage(100_000)), pricer.cost(Usage(100_000, written_tokens=100_000))
        assert before is not None
        assert after is not None
        assert after.amount == before.amount * factor
    rate = {"input": "2", "cached": "1", "written": "3", "output": "5"}
    table = PriceTable.model_validate({"models": {"m": rate}})
    pricer = HostedPricer("m", table=table)
    parts = Usage(1_000_000, 0, 500_000, 400_000)
    costs = [pricer.cost(usage) for usage in (fresh, written, parts, replace(parts, written_tokens=10**9))]
    assert [cost and cost.amount for cost in costs] == [2, 3, Decimal("1.9"), 2]


# Through the commands: each kind of answer is accepted at the first attempt, and nothing is asked twice.


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
async def test_each_kind_is_written_at_once_while_the_text_grows(every: int) -> None:
    kinds = KINDS[::every]
    with LoopbackServer(kinds, repeat_last=False) as server:
        async with Writer(model="m", base_url=server.base_url, key="k", log=False) as writer:
            for kind in kinds:
                result = await writer.write(**FIELDS, on_text=lambda _: None)
                assert (result.accepted, len(result.attempts)) == (GOOD.synopsis, 1), kind
    assert all(request.body["stream"] for request in server.chats)


PLAN_VALUE = parse(PLAN, Outline).value
PLANS = [
    Reply(f"<think>{PLAN.replace('Der Hund', 'Entwurf')}</think>{PLAN}"),
    Reply(f"{PLAN[:-1]},}}", "length"),
    Reply("", message=call(PLAN)),
    Reply(json.dumps({"outline": json.loads(PLAN) | {"genre": "Drama"}})),
]


async def test_each_kind_of_outline_is_read_at_once() -> None:
    with LoopbackServer(PLANS, repeat_last=False) as server:
        async with Writer(model="m", base_url=server.base_url, key="k", log=False) as writer:
            for kind in PLANS:
                assert await writer.outline(**FIELDS) == PLAN_VALUE, kind


def test_each_kind_is_written_in_a_batch(terminal: Terminal, tmp_path: Path) -> None:
    with (tmp_path / "briefs.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "show", "theme", "form"])
        rows.writerows([f"row-{n}", "Rote Rosen", GOOD.brief.theme, "portrait"] for n in range(len(KINDS)))
    flags = ("--concurrency", "1", "--max-retries", "0", "--variety", "off", "--cache", "off")
    with LoopbackServer(KINDS, repeat_last=False) as server:
        run = terminal("batch", "run", "briefs.csv", "--out", "out", *flags, server=server)
    assert run.out.startswith(f"{len(KINDS)} rows: {len(KINDS)} accepted, 0 refused, 0 failed, 0 pending")
    with sqlite3.connect(tmp_path / "out" / "batch.sqlite3") as database:
        assert database.execute("SELECT max(attempts), count(*) FROM rows").fetchone() == (1, len(KINDS))


def test_each_kind_is_fetched_from_a_provider(house: House) -> None:
    house.briefs(len(KINDS))
    with BatchServer(lambda body: KINDS[row_of(body)]) as server:
        house.submit(server)
        counts = house.fetch(server)
    assert counts.accepted == len(KINDS)


BAD_JSON = {"message": "Failed to generate JSON", "code": "json_validate_failed"}


@pytest.mark.parametrize(("generated", "accepted"), [({"failed_generation": ANSWER}, 1), ({}, 0)])
def test_bad_json_that_a_provider_reports_as_an_error_is_an_answer(
    house: House, generated: dict[str, str], accepted: int
) -> None:
    house.briefs(1)
    with BatchServer(lambda _: Fault(400, body={"error": BAD_JSON | generated})) as server:
        house.submit(server, attempts=1)
        counts = house.fetch(server, settings={"attempts": 1})
    assert (counts.accepted, counts.refused, counts.failed) == (accepted, 1 - accepted, 0)


def test_each_kind_of_usage_means_its_tokens_in_a_fetched_row(house: House) -> None:
    known = [case for case in cases() if case["means"] != "unknown"]
    house.briefs(len(known))
    with BatchServer(lambda _: Reply(ANSWER)) as server:
        house.submit(server)
        server.end(server.batches[0], "completed")
        lines = [json.loads(line) for line in server.batches[0].output]
        for line in lines:
            place = int(line["custom_id"].split("-")[1])
            line["response"]["body"]["usage"] = known[place - 1]["usage"]
        server.files["batch_1_output"] = "\n".join(map(json.dumps, lines)).encode()
        house.fetch(server)
    columns = ("prompt", "completion", "cached")
    found = house.ask("SELECT prompt_tokens, completion_tokens, cached_tokens FROM rows ORDER BY place")
    assert found == [tuple(case["means"].get(name, 0) for name in columns) for case in known]


# Thoughts that take all tokens.


@pytest.mark.parametrize("spent", [Reply("", "length"), Reply("<think>Hm", "length"), CANNOT_FINISH], ids=repr)
def test_a_model_that_thinks_for_all_its_tokens_gets_more(terminal: Terminal, spent: Step) -> None:
    with LoopbackServer([spent, spent, Reply(ANSWER)], repeat_last=False) as server:
        run = terminal("write", *ORDER, "--json", server=server)
    assert run.code == 0
    assert [request.body["max_tokens"] for request in server.chats] == [4000, 8000, 16000]
    assert all(request.body["messages"] == server.chats[0].body["messages"] for request in server.chats)
    tokens = "its 50" if isinstance(spent, Reply) else "all its"
    line = f"the model spent {tokens} tokens on thinking: raise max_tokens (now 4000)"
    assert json.loads(run.out)["history"][1]["problems"] == [line]
    assert run.err.count(line) == 1
    again = terminal("write", "--replay", "last", "--json")
    assert (again.code, json.loads(again.out)["text"]) == (0, GOOD.synopsis.text)
    assert "same prompt, same answers, same verdicts" in again.err


def test_an_outline_that_was_thought_about_for_too_long_gets_more(terminal: Terminal) -> None:
    spent = Reply("", "length")
    with LoopbackServer([spent, spent, spent, Reply(PLAN)], repeat_last=False) as server:
        assert terminal("outline", *ORDER, server=server).code == 0
    assert [request.body["max_tokens"] for request in server.chats] == [4000, 8000, 16000, 32000]


def test_a_longer_limit_that_the_server_refuses_ends_no_work(terminal: Terminal) -> None:
    spent, refused = Reply("", "length"), Fault(400, message="max_tokens is too large: 16000")
    with LoopbackServer([spent, spent, refused, Reply(ANSWER)], repeat_last=False) as server:
        run = terminal("write", *ORDER, server=server)
    assert [request.body["max_tokens"] for request in server.chats] == [4000, 8000, 16000, 4000]
    assert run.code == 0


def test_a_provider_that_could_not_finish_is_asked_for_more(house: House) -> None:
    house.briefs(1)

    def answer(body: Any) -> Reply | Fault:
        return CANNOT_FINISH if body["max_tokens"] < 8000 else Reply(ANSWER)

    with BatchServer(answer) as server:
        house.submit(server)
        assert house.fetch(server, wait=True, live_below=0).accepted == 1


def test_the_bill_says_what_was_written_into_the_cache_and_thought() -> None:
    usage = Usage(6000, 1900, 20, 5900, 1000)
    tokens = "6000 (20 cached, 5900 written to the cache) + 1900 (1000 thinking) tokens"
    assert bill([Answer("", usage=usage)]) == f"1 attempt, {tokens}, 0.0 s, unpriced"
    assert answer_data(Answer("", usage=usage)) == {
        "prompt_tokens": 6000,
        "cached_tokens": 20,
        "completion_tokens": 1900,
        "written_tokens": 5900,
        "thinking_tokens": 1000,
        "cost": "unpriced",
        "seconds": 0.0,
        "from_cache": False,
    }


# A repair quotes the answer, not the thoughts.


async def test_a_repair_quotes_the_answer_without_its_thoughts() -> None:
    client = ScriptedClient([f"<think>{ANSWER}</think>{CLOSED}", ANSWER])
    async with Writer(client=client, log=False) as writer:
        result = await writer.write(**FIELDS)
    assert [attempt.checks for attempt in result.attempts] == [("hook",), ()]
    assert client.calls[1].messages[-2].content == CLOSED
    assert result.attempts[0].answer.text.startswith("<think>")


async def test_a_repair_says_where_the_json_breaks() -> None:
    broken = ANSWER.replace('"logline":', '"logline"')
    client = ScriptedClient([broken, ANSWER])
    async with Writer(client=client, log=False) as writer:
        result = await writer.write(**FIELDS)
    assert result.accepted
    assert client.calls[1].messages[-2].content == broken
    assert "structure: the JSON breaks at line 1, column 26, near …" in client.calls[1].messages[-1].content


def test_what_the_old_version_cached_with_thoughts_is_read(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(ANSWER)], repeat_last=False) as server:
        assert terminal("write", *ORDER, "--cache", "read", server=server).code == 0
        with sqlite3.connect(load_settings({}, {}).cache / CACHE_FILE) as database:
            database.execute("UPDATE answers SET text = ?", (f"<think>{DRAFT}</think>{ANSWER}",))
        database.close()
        assert terminal("write", *ORDER, "--cache", "read", server=server).code == 0
    assert len([name for name in saved(tmp_path) if name.endswith(".md")]) == 2
