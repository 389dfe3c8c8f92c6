"""Answers come back from a provider: each row saved once, whatever the files look like."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.errors import ConnectionFailedError, RequestRefusedError, SettingsError
from synopsis_writer.provider.api import read_result
from tests.support.house import FETCH, KEY, QUICK, SUBMIT, House, good, lines, row_of, told
from tests.support.loopback import Fault, Reply
from tests.support.provider import BatchServer, Unasked
from tests.support.terminal import ANSWER, CLOSED, Terminal


def test_rows_come_back_in_any_order_and_are_saved_once_with_their_tokens(house: House) -> None:
    house.briefs(6)
    with BatchServer(lambda body: Reply(ANSWER, prompt_tokens=100 + row_of(body), cached_tokens=7)) as server:
        assert told(house.submit(server)) == (0, 0, 0, 6)
        assert told(house.fetch(server)) == (6, 0, 0, 0)
        assert [json.loads(line)["custom_id"] for line in server.batches[0].output] != [
            line["custom_id"] for line in lines(server)
        ]
    tokens = "SELECT prompt_tokens, cached_tokens, completion_tokens, attempts FROM rows ORDER BY place"
    assert house.ask(tokens) == [(100 + n, 7, 50, 1) for n in range(6)]
    assert house.answers == [(f"row: {n}", 1) for n in range(6)]
    assert len(server.batches) == 1
    assert list((house.out / "provider").iterdir()) == []
    origin = json.loads(house.ask("SELECT origin FROM rows")[0][0])
    assert (origin["model"], origin["attempts"], origin["prompt"]["name"]) == ("m-2026", 1, "synopsis")


@pytest.mark.parametrize(("status", "code"), [("expired", "batch_expired"), ("cancelled", "batch_cancelled")])
def test_what_was_done_before_a_batch_ended_stays_and_the_rest_is_sent_again(
    house: House, status: str, code: str
) -> None:
    house.briefs(5)

    def answer(body: Any) -> Reply | Unasked:
        return Unasked(code) if row_of(body) > 1 and len(server.batches) == 1 else Reply(ANSWER)

    with BatchServer(answer, ends=(status, "completed")) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (2, 0, 0, 3)
        house.submit(server)
        assert sorted(row_of(line["body"]) for line in lines(server, 1)) == [2, 3, 4]
        assert told(house.fetch(server)) == (5, 0, 0, 0)
    assert house.answers == [(f"row: {n}", 1) for n in range(5)]


def test_rows_without_any_line_are_pending_again(house: House) -> None:
    house.briefs(3)
    with BatchServer(good) as server:
        house.submit(server)
        server.end(server.batches[0], "expired")
        del server.batches[0].output[1:]
        server.files["batch_1_output"] = server.batches[0].output[0].encode()
        assert told(house.fetch(server)) == (1, 0, 0, 2)
        assert house.messages[-1] == "shard 1: batch batch_1 is expired; 2 rows are pending again"


def test_a_rejected_request_fails_its_row_and_a_transient_error_does_not(house: House) -> None:
    house.briefs(4)
    outcomes: list[Reply | Fault] = [Reply(ANSWER), Fault(400, message="too long"), Fault(429), Fault(500)]
    with BatchServer(lambda body: outcomes[row_of(body)]) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (1, 0, 1, 2)
    assert house.statuses == ["accepted", "failed", "pending", "pending"]
    assert house.ask("SELECT reason FROM rows WHERE status = 'failed'") == [("the provider answered 400: too long",)]


def test_a_body_that_is_not_an_answer_is_paid_anyway(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        server.end(server.batches[0], "completed")
        line = json.loads(server.batches[0].output[0])
        line["response"]["body"]["choices"] = []
        server.files["batch_1_output"] = json.dumps(line).encode()
        assert told(house.fetch(server)) == (0, 0, 0, 1)
    assert house.ask("SELECT prompt_tokens, completion_tokens FROM rows") == [(100, 50)]


def test_lines_of_no_row_are_reported_and_ignored_and_the_first_result_stays(house: House) -> None:
    house.briefs(2)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        first = json.loads(batch.output[0])
        again = {**first, "response": {"status_code": 200, "body": Reply(CLOSED).as_data("m")}}
        strange = [{**first, "custom_id": name} for name in ("x", None, "0" * 16 + "-1-1", first["custom_id"] + "9")]
        content = [*batch.output, json.dumps(again), *map(json.dumps, strange), '{"custom_id', "", "[]"]
        server.files["batch_1_output"] = "\n".join(line.strip() for line in content).encode()
        assert told(house.fetch(server)) == (2, 0, 0, 0)
    ignored = [line for line in house.messages if "is ignored" in line]
    assert "the first one stays" in ignored[0]
    assert "unknown request id 'x'" in ignored[1]
    assert any("7 lines in all" in line for line in house.messages)
    assert house.answers == [("row: 0", 1), ("row: 1", 1)]


BROKEN_LINES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "no JSON": lambda line: json.dumps(line).encode()[:-1],
    "a mangled id": lambda line: json.dumps({**line, "custom_id": "x\x1b]52;c;x\x07"}).encode(),
    "no UTF-8": lambda _: b"\xff\xfe{}",
    "nested": lambda _: b"[" * 100_000,
    "too long": lambda _: b'{"x": "' + b"x" * 17_000_000 + b'"}',
    "a NUL": lambda _: b"\0\0\0",
    "a number": lambda _: b"1" * 5_000,
}


@pytest.mark.parametrize("kind", BROKEN_LINES)
def test_a_line_that_cannot_be_read_is_skipped_and_its_row_is_pending_again(house: House, kind: str) -> None:
    house.briefs(3)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        broken = BROKEN_LINES[kind](json.loads(batch.output[1]))
        content = [batch.output[0].encode().strip(), broken, batch.output[2].encode().strip()]
        server.files["batch_1_output"] = b"\n".join(content)
        assert told(house.fetch(server)) == (2, 0, 0, 1)
        assert any("line 2 is ignored: the line cannot be read" in line for line in house.messages)
        assert house.messages[-1] == "shard 1: batch batch_1 is completed; 1 row is pending again"
        assert all(len(line) < 400 for line in house.messages)
        house.submit(server)  # the row goes out once more
        assert told(house.fetch(server)) == (3, 0, 0, 0)


@pytest.mark.parametrize("digits", [30, 400, 5_000])
def test_numbers_of_very_many_digits_lose_no_answer(house: House, digits: int) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        line = json.loads(batch.output[0])
        line["response"]["body"]["usage"]["prompt_tokens"] = 0
        text = json.dumps(line).replace('"prompt_tokens": 0', f'"prompt_tokens": {"9" * digits}')
        server.files["batch_1_output"] = text.encode()
        assert told(house.fetch(server)) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("more", "saved"), [(b"\n" * 1_000_000, 3), (b'\n{"custom_id": 1}' * 60_000, 3), (b"x" * 1_000_000, 2)]
)
def test_a_file_of_results_is_read_no_further_than_it_was_offered_and_what_lies_within_is_saved(
    house: House, more: bytes, saved: int
) -> None:
    house.briefs(3)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        lines = [line.encode().strip() + b"\n" for line in batch.output]
        server.files["batch_1_output"] = b"".join(lines[:2]) + lines[2].strip() + more
        server.file_sizes["batch_1_output"] = len(b"".join(lines))
        assert told(house.fetch(server)) == (saved, 0, 0, 3 - saved)
        assert any("the results are more than" in line for line in house.messages)
        assert saved == 3 or "counts 3 answers and gave 2: fetch again, or let the others go" in house.messages[-1]
        assert list((house.out / "provider").iterdir()) == []
        server.files["batch_1_output"] = b"".join(lines)
        assert told(house.fetch(server)) == (3, 0, 0, 0)


def test_a_download_that_never_comes_whole_loses_nothing(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, faults={"GET /files/ID/content": ["cut"] * 3}) as server:
        house.submit(server)
        with pytest.raises(ConnectionFailedError):
            house.fetch(server)
        assert list((house.out / "provider").iterdir()) == []
        assert told(house.fetch(server)) == (2, 0, 0, 0)


@pytest.mark.parametrize("kept", [0, 1])
def test_answers_that_the_provider_counts_but_does_not_deliver_are_waited_for(house: House, kept: int) -> None:
    house.briefs(3)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        whole = server.files["batch_1_output"]
        if kept:
            server.files["batch_1_output"] = batch.output[0].encode()
        else:
            server.odd["output_file_id"] = None
        assert told(house.fetch(server)) == (kept, 0, 0, 3 - kept)
        assert f"the provider counts 3 answers and gave {kept}" in house.messages[-1]
        assert list((house.out / "provider").iterdir()) == []
        house.submit(server)
        assert len(server.batches) == 1  # they are paid
        server.odd.clear()
        server.files["batch_1_output"] = whole
        house.messages.clear()
        assert told(house.fetch(server)) == (3, 0, 0, 0)
    assert not any("ignored" in line for line in house.messages)
    assert house.answers == [(f"row: {n}", 1) for n in range(3)]


def test_a_provider_that_counts_failed_requests_as_completed_keeps_nothing_open(house: House) -> None:
    house.briefs(2)
    with BatchServer(lambda body: Fault(400) if row_of(body) else Reply(ANSWER)) as server:
        house.submit(server)
        server.odd["request_counts"] = {"total": 2, "completed": 2, "failed": 1}
        assert told(house.fetch(server)) == (1, 0, 1, 0)


@pytest.mark.parametrize("wait", [False, True])
def test_a_missing_batch_or_file_does_not_keep_others_from_being_read(house: House, wait: bool) -> None:
    house.briefs(6)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=2))
        for batch in server.batches:
            server.end(batch, "completed")
        del server.files["batch_2_output"]
        del server.batches[0]
        with pytest.raises(RequestRefusedError, match=r"does not know 'batch_1' of shard 1.*cancel --forget 1"):
            house.fetch(server, wait=wait)
        assert house.statuses == ["pending"] * 4 + ["accepted"] * 2
        assert any("does not know 'batch_2_output' of shard 2" in line for line in house.messages)
        with pytest.raises(SettingsError, match=r"shard 3 is not open: name one that is \(1, 2\)"):
            house.cancel(server, forget=(3,))
        house.cancel(server, forget=(1,))
        assert house.ask("SELECT number FROM shards WHERE is_open") == [(2,)]


def test_waiting_outlasts_an_outage(house: House) -> None:
    house.briefs(1)
    faults: Any = {"GET /batches/ID": [Fault(503)] * 7, "GET /files/ID/content": ["cut"] * 4}
    with BatchServer(good, faults=faults) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (1, 0, 0, 0)
    assert any("answered 503 every time" in line for line in house.messages)


@pytest.mark.parametrize(
    "odd",
    [
        {"errors": ""},
        {"errors": "none"},
        {"errors": {"data": ["x", None, {"line": "first"}]}},
        {"request_counts": {"total": 1, "completed": None, "failed": None}},
        {"request_counts": "all"},
        {"expires_at": "2026-01-01T00:00:00Z"},
        {"expires_at": 1_900_000_000_000},
        {"metadata": ["x"]},
    ],
    ids=str,
)
def test_a_field_that_nobody_needs_loses_nothing(house: House, odd: dict[str, Any]) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        server.odd = odd
        assert told(house.fetch(server)) == (1, 0, 0, 0)


def test_a_malformed_batch_of_the_account_hides_no_other(house: House) -> None:
    house.briefs(1)
    with BatchServer(good, faults={"POST /batches": [None, "lost"]}, page=1) as server:
        other = replace(house, folder=house.folder / "other")
        other.folder.mkdir()
        other.briefs(1)
        other.submit(server)
        page = server._list

        def listed(path: str) -> tuple[int, Any]:
            status, body = page(path)
            return status, {**body, "data": [{"id": 7}, *body["data"]]}

        server._list = listed  # type: ignore[method-assign]
        house.submit(server)
        assert len(server.batches) == 2


def test_an_impossible_time_is_reported(house: House) -> None:
    house.briefs(1)
    with BatchServer(good, ends=("in_progress",)) as server:
        house.submit(server)
    database = sqlite3.connect(house.out / "batch.sqlite3")
    database.execute("UPDATE shards SET expires = 1900000000000")
    database.commit()
    database.close()
    assert "at a time that no calendar has" in Terminal(house.folder)("batch", "status", "out").out


def test_the_model_is_that_of_the_batch_unless_a_flag_names_another(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        terminal = Terminal(house.folder)
        environment: dict[str, Any] = {"SYNOPSIS_CACHE": str(house.cache), "SYNOPSIS_MODEL": "x"}
        assert terminal("batch", *FETCH, server=server, **environment).code == 0
        assert "model changed" in terminal("batch", *FETCH, "--model", "x", server=server, **environment).err


def test_rows_that_nobody_works_on_after_waiting_are_an_error(house: House) -> None:
    house.briefs(2)
    with BatchServer(lambda body: Reply(ANSWER) if row_of(body) else Fault(429)) as server:
        house.submit(server)
        run = Terminal(house.folder)("batch", *FETCH, "--wait", server=server, SYNOPSIS_CACHE=str(house.cache))
    assert (run.code, run.err.splitlines()[-1].endswith("nobody works on 1 pending row: submit the batch again")) == (
        3,
        True,
    )


def test_no_file_of_a_shard_that_is_done_with_stays(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, faults={"POST /files": [Fault(401)]}) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server)
        folder = house.out / "provider"
        (folder / ".synopsis-half").write_text("x", encoding="utf-8")
        (folder / "mine.txt").write_text("x", encoding="utf-8")
        assert len(list(folder.iterdir())) == 3
        house.cancel(server)
        assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_an_answer_after_a_line_with_a_transient_error_is_used(house: House) -> None:
    house.briefs(2)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=1))
        for place, batch in enumerate(server.batches):
            server.end(batch, "completed")
            undone = {"custom_id": batch.requests[0]["custom_id"], "error": {"code": "batch_expired"}}
            strange = '{"custom_id": "zz"}\n' * (6 if place == 0 else 1)
            content = json.dumps(undone) + "\n" + batch.output[0] + strange
            server.files[f"batch_{place + 1}_output"] = content.encode()
        assert told(house.fetch(server)) == (2, 0, 0, 0)
    assert [line.split(":")[1] for line in house.messages if "lines in all" in line] == [
        " 6 lines in all belong to no row, or to one that was read"
    ]


def test_a_batch_that_the_provider_does_not_know_says_what_to_do(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        server.batches.clear()
        with pytest.raises(RequestRefusedError, match=r"does not know 'batch_1'.*--forget"):
            house.fetch(server)


def test_open_batches_are_waited_for(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, looks=3) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (0, 0, 0, 2)
        assert house.messages[-1] == "shard 1: batch batch_1 is in_progress: 0 of 2 done, 0 failed"
        assert told(house.fetch(server, wait=True)) == (2, 0, 0, 0)


def test_commands_exit_as_a_run_does(house: House) -> None:
    terminal = Terminal(house.folder)
    missing = terminal("batch", "fetch", "none", **KEY)
    assert (missing.code, len(missing.err.splitlines())) == (2, 1)
    assert not (house.folder / "none").exists()
    house.briefs(2)
    with BatchServer(lambda body: Fault(400) if row_of(body) else Reply(ANSWER)) as server:
        terminal("batch", *SUBMIT, server=server, SYNOPSIS_CACHE=str(house.cache))
        assert terminal("batch", *FETCH, server=server, SYNOPSIS_CACHE=str(house.cache)).code == 3
        down = terminal("batch", "submit", "briefs.csv", "--out", "out", "--model", "m", "--retry", "failed",
                        "--max-retries", "0", OPENAI_BASE_URL="http://127.0.0.1:9/v1", **KEY)  # fmt: skip
        assert (down.code, len(down.err.splitlines())) == (3, 1)


def vllm(path: Path, answer: Callable[[Any], Reply | Fault]) -> str:
    """Return what `vllm run-batch` writes for a file of requests."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        ask = json.loads(line)
        outcome = answer(ask["body"])
        response: dict[str, Any] = {"status_code": 200, "request_id": "vllm-batch-1", "body": None}
        error = None
        if isinstance(outcome, Reply):
            response["body"] = outcome.as_data("m")
        else:
            response["status_code"] = outcome.status
            error = {"error": {"message": "bad prompt", "type": "BadRequestError", "code": outcome.status}}
        lines.append({"id": "vllm-1", "custom_id": ask["custom_id"], "response": response, "error": error})
    return "\n".join(map(json.dumps, lines))


def test_the_same_files_run_elsewhere_and_are_read_back(house: House) -> None:
    house.briefs(4)
    terminal = Terminal(house.folder)
    cache: dict[str, Any] = {"SYNOPSIS_CACHE": str(house.cache)}
    outcomes: list[Reply | Fault] = [Reply(ANSWER), Reply(CLOSED), Fault(400), Reply(ANSWER)]
    written = terminal("batch", *SUBMIT, "--to-files", "files", **cache)
    assert written.code == 0, written.err
    (path,) = (house.folder / "files").iterdir()
    text = vllm(path, lambda body: outcomes[row_of(body)]).splitlines()
    (house.folder / "out.jsonl").write_text("\n".join(text[:3]), encoding="utf-8")
    fetch = ("batch", "fetch", "out", "--variety", "off", "--from-file")
    done = terminal(*fetch, "out.jsonl", **cache)
    assert done.code == 3, done.err
    assert house.statuses == ["accepted", "pending", "failed", "pending"]
    assert house.ask("SELECT reason FROM rows WHERE status = 'failed'") == [("the provider answered 400: bad prompt",)]
    path.unlink()
    again = terminal("batch", *SUBMIT, "--to-files", "files", **cache)
    assert "2 requests" in again.err
    (path,) = (house.folder / "files").iterdir()
    (house.folder / "out.jsonl").write_text(vllm(path, good), encoding="utf-8")
    terminal(*fetch, "out.jsonl", **cache)
    assert house.statuses == ["accepted", "accepted", "failed", "accepted"]
    assert house.ask("SELECT max(number) FROM answers WHERE row = 'row: 1'") == [(2,)]
    last = terminal("batch", *SUBMIT, "--to-files", "files", "--retry", "failed", **cache)
    assert "1 request in" in last.err
    assert "1 request in a file: give its results to batch fetch --from-file" in last.out
    strange = terminal(*fetch, "briefs.csv", **cache)
    assert (strange.code, "holds no result of this batch" in strange.err) == (2, True)
    assert terminal("batch", "cancel", "out").err == "shard 3: released: 1 row is pending again\n"


@pytest.mark.parametrize(
    ("line", "reason", "passes"),
    [
        ({"error": "boom"}, "no answer: boom", False),
        ({"response": {"status_code": 400}, "error": "boom"}, "the provider answered 400: boom", False),
        ({"response": {"status_code": 503, "body": "x"}}, "the provider answered 503", True),
        ({"response": None, "error": {"code": "batch_expired"}}, "no answer: batch_expired", True),
        ({"response": {"status_code": "x", "body": {"error": {"message": "a\nb"}}}}, "no answer: a b", False),
        ({"response": 7, "error": [1]}, "no answer", False),
    ],
)
def test_a_line_without_an_answer_says_why(line: Any, reason: str, passes: bool) -> None:
    found = read_result(json.dumps({"custom_id": "0123456789abcdef-7-2", **line}).encode())
    assert not isinstance(found, str)
    assert (found.place, found.number, found.body) == (7, 2, None)
    assert (found.reason, found.is_transient) == (reason, passes)


def test_texts_checked_in_separate_processes_give_the_same(house: House) -> None:
    house.briefs(3)
    with BatchServer(lambda body: Reply(CLOSED if row_of(body) == 1 else ANSWER)) as server:
        house.submit(server, attempts=1)
        assert told(house.fetch(server, settings={"attempts": 1}, workers=1)) == (2, 1, 0, 0)
    assert house.statuses == ["accepted", "refused", "accepted"]
