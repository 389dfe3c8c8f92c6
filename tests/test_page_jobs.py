"""The page's jobs: a model writes, revises and tells in other lengths; versions, release, export, import."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer import Writer, read_document
from synopsis_writer.evals.judge import RATINGS_FILE
from synopsis_writer.settings import load_settings
from tests.support.forked import Forked
from tests.support.loopback import CutStream, LoopbackServer, Reply, StalledStream, Step
from tests.support.page import KEY, Browser, served
from tests.support.terminal import ANSWER, CLOSED, COMMAND, FILE, GOOD, PATH, Terminal
from tests.test_eval_scoring import ALL, CASES, write_run
from tests.test_ratings import FIRST, SECOND

BRIEF = {**GOOD.brief.as_data(), "beats": [""], "notes": None}
NAME = FILE.removeprefix("synopsen/")
SLOW = 0.002  # seconds between two pieces of an answer
RENAMED = json.dumps({**json.loads(ANSWER), "title": "Baske bleibt"}, ensure_ascii=False)


@contextmanager
def page(folder: Path, *steps: Step, **given: Any) -> Iterator[tuple[Browser, LoopbackServer]]:
    """Serve the page with a model that takes these steps."""
    with LoopbackServer(steps) as server:

        def open_writer() -> Writer:
            folders = {"out": folder / "synopsen", "log": folder / "data" / "runs.sqlite3"}
            more = {"base_url": server.base_url, "max_retries": 0, "responses": "off", "lang": "en"}
            settings = load_settings({**folders, **more, "cache": folder / "cache", **given}, {})
            return Writer(settings, environment={"OPENAI_API_KEY": KEY})

        with served(open_writer) as browser:
            yield browser, server


def events(browser: Browser, job: str, last: int = 0, until: str = "") -> list[tuple[int, str, Any]]:
    """Return the events of a job after the last one that is known, or up to one of a kind."""
    found: list[tuple[int, str, Any]] = []
    headers = {"Last-Event-ID": str(last)} if last else {}
    with browser.client.stream("GET", f"/api/jobs/{job}/events", headers=headers) as stream:
        assert stream.status_code == 204 or stream.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
                continue
            if "data" in event:
                assert KEY not in event["data"]
                found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                if event["event"] == until:
                    break
            event = {}
    return found


def written(browser: Browser) -> dict[str, Any]:
    """Write a text, save it, and return it."""
    told = events(browser, browser.post("/api/write", {"brief": BRIEF})["job"])
    assert told[-1][1] == "done", told[-1]
    saved: dict[str, Any] = browser.post("/api/texts", told[-1][2]["texts"][0])
    return saved


def test_a_text_grows_is_repaired_accepted_and_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "synopsis_writer")
    with page(tmp_path, Reply(CLOSED, pause=SLOW), Reply(ANSWER, pause=SLOW)) as (browser, _):
        told = events(browser, browser.post("/api/write", {"brief": BRIEF})["job"])
        kinds = [kind for _, kind, _ in told]
        assert {"status", "growing", "attempt", "done"} == set(kinds)
        first, second = (data for _, kind, data in told if kind == "attempt")
        assert (first["number"], first["passed"], second["number"], second["passed"]) == (1, False, 2, True)
        assert first["usage"] == {"prompt": 100, "completion": 50}
        assert [each["check"] for each in first["findings"]]
        text = told[-1][2]["texts"][0]
        assert (text["title"], text["state"], text["id"]) == (GOOD.synopsis.title, "accepted", None)
        assert browser.get(f"/api/journal/{text['draft']}")["title"] == text["title"]
        saved = browser.post("/api/texts", text)
        assert saved["id"] == NAME
        assert browser.get("/api/journal")["drafts"] == []
        document = read_document(tmp_path / FILE)
        assert (document.text, document.meta["model"]) == (GOOD.synopsis.text, "gpt-5.4-mini-2026")
        (version,) = browser.get(f"/api/texts/{NAME}/versions")["versions"]
        assert (version["maker"], version["model"]) == ("model", "gpt-5.4-mini-2026")


def test_a_lost_connection_goes_on_where_it_ended(tmp_path: Path) -> None:
    with page(tmp_path, Reply(ANSWER, pause=SLOW)) as (browser, _):
        job = browser.post("/api/write", {"brief": BRIEF})["job"]
        before = events(browser, job, until="growing")
        after = events(browser, job, before[-1][0])
        numbers = [number for number, *_ in (*before, *after)]
        assert numbers == sorted(set(numbers))
        assert after[-1][1] == "done"
        assert events(browser, job, after[-1][0]) == []
        whole = events(browser, job)
        assert (whole[-1], [kind for _, kind, _ in whole].count("growing")) == (after[-1], 1)


def test_a_job_that_is_stopped_says_so_and_the_next_one_runs(tmp_path: Path) -> None:
    with page(tmp_path, StalledStream(ANSWER), Reply(ANSWER)) as (browser, _):
        job = browser.post("/api/write", {"brief": BRIEF})["job"]
        events(browser, job, until="growing")
        browser.post(f"/api/jobs/{job}/stop")
        assert events(browser, job)[-1][1:] == ("stopped", {})
        assert written(browser)["state"] == "accepted"
        assert browser.ask("POST", "/api/jobs/j-none/stop", {}).status_code == 404


def test_what_grew_is_kept_where_the_model_dies(tmp_path: Path) -> None:
    with page(tmp_path, CutStream(ANSWER)) as (browser, _):
        job = browser.post("/api/write", {"brief": BRIEF})["job"]
        number, kind, failed = events(browser, job)[-1]
        assert (kind, failed["code"]) == ("failed", 3)
        assert "\n" not in failed["message"]
        assert failed["text"]["paragraphs"][0]["text"].startswith(GOOD.synopsis.text[:60])
        assert failed["text"]["brief"]["theme"] == GOOD.brief.theme
        kept = browser.get(f"/api/journal/{failed['text']['draft']}")
        assert (number > 0, kept["paragraphs"]) == (True, failed["text"]["paragraphs"])


def test_a_text_that_the_gate_refuses_is_kept(tmp_path: Path) -> None:
    with page(tmp_path, Reply(CLOSED), attempts=1) as (browser, _):
        failed = events(browser, browser.post("/api/write", {"brief": BRIEF})["job"])[-1]
        assert (failed[1], failed[2]["code"], failed[2]["text"]["state"]) == ("failed", 1, "refused")
        (draft,) = browser.get("/api/journal")["drafts"]
        assert draft["draft"] == failed[2]["text"]["draft"]


def test_typing_is_checked_while_a_model_writes(tmp_path: Path) -> None:
    with page(tmp_path, StalledStream(ANSWER)) as (browser, _):
        job = browser.post("/api/write", {"brief": BRIEF})["job"]
        events(browser, job, until="growing")
        assert browser.post("/api/check", {"paragraphs": [{"text": "Er geht, daß es kracht."}]})["findings"]
        browser.post(f"/api/jobs/{job}/stop")


def test_a_wish_becomes_a_version_and_the_old_one_comes_back(tmp_path: Path) -> None:
    with page(tmp_path, Reply(ANSWER), Reply(RENAMED)) as (browser, _):
        saved = written(browser)
        wish = {"text": saved, "note": "ein anderer Titel", "keep": [], "variants": 1, "words": None}
        done = events(browser, browser.post("/api/revise", wish)["job"])[-1][2]
        (text,) = done["texts"]
        assert (text["id"], text["request"]) == (NAME, {"note": "ein anderer Titel"})
        taken = browser.put(f"/api/texts/{NAME}", text)
        assert (taken["title"], taken["origin"]["run"]) == ("Baske bleibt", text["origin"]["run"])
        newest, first = browser.get(f"/api/texts/{NAME}/versions")["versions"]
        assert [newest["maker"], newest["request"]] == ["model", {"note": "ein anderer Titel"}]
        old = browser.get(f"/api/versions/{first['id']}")
        restored = browser.put(f"/api/texts/{NAME}", {**old, "hash": taken["hash"]})
        assert restored["title"] == GOOD.synopsis.title
        third, *_ = browser.get(f"/api/texts/{NAME}/versions")["versions"]
        assert third["maker"] == "person"


def test_one_paragraph_is_revised_and_the_others_stay(tmp_path: Path) -> None:
    paragraphs = json.loads(ANSWER)["paragraphs"]
    new = {**paragraphs[2], "text": paragraphs[2]["text"].replace("Bei Hendrik Althaus hat", "Bei einem hat")}
    with page(tmp_path, Reply(ANSWER), Reply(json.dumps({"paragraphs": [new]}))) as (browser, _):
        wish = {"text": written(browser), "note": "knapper", "paragraphs": [3]}
        (text,) = events(browser, browser.post("/api/revise", wish)["job"])[-1][2]["texts"]
        texts = [part["text"] for part in text["paragraphs"]]
        assert texts == [*(part["text"] for part in paragraphs[:2]), new["text"], *texts[3:]]


def test_whose_words_they_are_is_known_where_a_person_changed_a_models_text_first(tmp_path: Path) -> None:
    with page(tmp_path, Reply(ANSWER)) as (browser, _):
        told = events(browser, browser.post("/api/write", {"brief": BRIEF})["job"])
        text = told[-1][2]["texts"][0]
        text["paragraphs"][-1]["text"] += " Morgen kommt der Hund zurück, vielleicht?"
        browser.put(f"/api/journal/{text['draft']}", text)
        saved = browser.post("/api/texts", text)
        makers = [each["maker"] for each in browser.get(f"/api/texts/{NAME}/versions")["versions"]]
        assert makers == ["person", "model"]
        given = {"id": saved["id"], "hash": saved["hash"], "by": "Eva Muster", "waivers": {}}
        record = browser.post("/api/release", given)["release"]
        assert 0 < record["person_share"] < 0.1


def test_a_released_text_that_is_changed_says_so(tmp_path: Path) -> None:
    with page(tmp_path, Reply(ANSWER)) as (browser, _):
        saved = written(browser)
        given = {"id": saved["id"], "hash": saved["hash"], "by": "Eva Muster"}
        assert browser.ask("POST", "/api/release", {**given, "by": " "}).status_code == 400
        released = browser.post("/api/release", given)
        assert (released["state"], released["release"]["by"]) == ("released", "Eva Muster")
        assert browser.ask("POST", "/api/release", given).status_code == 409
        released["paragraphs"][0]["text"] += " Sie geht."
        assert browser.put(f"/api/texts/{NAME}", released)["state"] == "changed"
        assert [row["state"] for row in browser.get("/api/texts?state=changed")["texts"]] == ["changed"]


def test_what_the_gate_refuses_is_released_only_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.parent.mkdir(parents=True)
    head, _, text = PATH.read_text(encoding="utf-8").rpartition("---\n")
    file.write_text(f"{head}---\n{text.replace(' und ', ' daß ', 1)}", encoding="utf-8")
    with page(tmp_path) as (browser, _):
        opened = browser.get(f"/api/texts/{NAME}")
        given = {"id": NAME, "hash": opened["hash"], "by": "Eva"}
        refused = browser.ask("POST", "/api/release", given)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, 1)
        assert "spelling: " in refused.json()["error"]["message"]
        released = browser.post("/api/release", {**given, "waivers": {"spelling": "Ein Zitat"}})
        assert (released["state"], released["waived"][0]["reason"]) == ("released", "Ein Zitat")


def test_texts_go_out_and_come_in(tmp_path: Path) -> None:
    with page(tmp_path, Reply(ANSWER)) as (browser, _):
        written(browser)
        sheet = browser.ask("GET", f"/api/export?id={NAME}&format=docx")
        assert sheet.headers["content-disposition"] == 'attachment; filename="der-weisse-hund.docx"'
        path = "/api/import?name=..%2FAus%20Word%20%3Cb%3E.docx"
        imported = browser.of(browser.ask("POST", path, sheet.content))
        (text,) = imported["texts"]
        assert (text["title"], text["id"]) == (GOOD.synopsis.title, None)
        parts = [part["text"] for part in text["paragraphs"]]
        assert parts == [part.text for part in GOOD.synopsis.paragraphs]
        assert browser.ask("GET", f"/api/export?id={NAME}&format=exe").status_code == 400
        assert browser.ask("GET", "/api/export?format=txt").status_code == 400


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.exe", b"MZ", 400),
        ("a.md", b"\0\0", 400),
        ("a.docx", b"PK no zip", 400),
        ("a.txt", b"", 400),
        ("a.json", b"{", 400),
        ("a.txt", b"x" * 2_000_001, 413),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes, status: int) -> None:
    with page(tmp_path) as (browser, _):
        answer = browser.ask("POST", f"/api/import?name={name}", content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, 2)


def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 50_000_000)
    with page(tmp_path) as (browser, _):
        answer = browser.ask("POST", "/api/import?name=a.docx", packed.getvalue())
        assert (answer.status_code, len(packed.getvalue()) < 100_000) == (400, True)


def test_the_prompt_is_shown_with_its_examples_and_their_reasons(tmp_path: Path) -> None:
    with page(tmp_path) as (browser, server):
        shown = browser.post("/api/prompt", {"brief": BRIEF})
        assert (shown["messages"][0]["role"], len(server.chats)) == ("system", 0)
        assert all(example["reason"] for example in shown["examples"])
        assert shown["examples"]


def test_two_texts_are_compared_word_by_word(tmp_path: Path) -> None:
    with page(tmp_path) as (browser, _):
        given = {"old": ["Er geht heim."], "new": ["Er fährt <b> heim."]}
        (parts,) = browser.post("/api/diff", given)["pieces"]
        joined = {kind: "".join(part["text"] for part in parts if part["kind"] != kind) for kind in ("out", "in")}
        assert joined == {"out": "Er fährt <b> heim.", "in": "Er geht heim."}
        assert browser.ask("POST", "/api/diff", {"old": ["x" * 60_000], "new": [""]}).status_code == 400


def test_a_story_is_told_in_other_lengths_beside_it(tmp_path: Path) -> None:
    with page(tmp_path, Reply(ANSWER)) as (browser, _):
        saved = written(browser)
        done = events(browser, browser.post("/api/lengths", {"text": saved, "forms": ["teaser"]})["job"])
        attempts = [data for _, kind, data in done if kind == "attempt"]
        assert {attempt["form"] for attempt in attempts} == {"teaser"}
        (text,) = done[-1][2]["texts"]
        assert (text["story"], text["beside"], text["brief"]["form"]) == (saved["story"], NAME, "teaser")
        assert browser.post("/api/texts", text)["id"] == NAME.replace(".md", "-teaser.md")


def test_a_batch_is_a_list_to_work_through(tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "id,show,theme,form\na,Rote Rosen,Ein Hund,portrait\n"
    (tmp_path / "briefs.csv").write_text(rows, encoding="utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        terminal("batch", "run", "briefs.csv", "--out", "stapel", server=server)
    monkeypatch.chdir(tmp_path)
    with page(tmp_path) as (browser, _):
        found = browser.get("/api/folder?path=stapel")
        assert (found["kind"], [row["key"] for row in found["rows"]]) == ("batch", ["a"])
        assert found["rows"][0]["text"]["brief"]["theme"] == "Ein Hund"
        for path in ("..", "/etc", "none", "stapel%00", "data"):
            assert browser.ask("GET", f"/api/folder?path={path}").status_code == 400


def test_an_eval_run_is_a_list_to_work_through(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        terminal("eval", "run", "--out", "lauf", "--cases", "portrait", "--attempts", "1", server=server)
    monkeypatch.chdir(tmp_path)
    with page(tmp_path) as (browser, _):
        found = browser.get("/api/folder?path=lauf")
        assert (found["kind"], found["more"]) == ("eval", False)
        assert found["rows"][0]["text"]["title"] == GOOD.synopsis.title


def test_pairs_of_an_eval_run_are_rated_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "lauf", [*FIRST, *SECOND], CASES)
    monkeypatch.chdir(tmp_path)
    given = {"run": "lauf", "rater": "Ina", "suite": str(ALL.folder)}
    with page(tmp_path) as (browser, _):
        shown = browser.post("/api/rate", given)
        assert (shown["done"], shown["pairs"], len(shown["texts"])) == (0, len(FIRST), 3)
        assert shown.keys() == {"done", "pairs", "id", "texts", "brief"}
        assert shown["texts"][0].keys() == {"title", "logline", "characters", "paragraphs"}
        after = browser.post("/api/rate", {**given, "pair": shown["id"], "choice": 2})
        assert (after["done"], after["id"] != shown["id"]) == (1, True)
        assert browser.post("/api/rate", {**given, "rater": "Ulf"})["done"] == 0
        for wrong in ({"pair": "none"}, {"run": ".."}, {"run": "none"}, {"rater": " "}, {"choice": 3}):
            assert browser.ask("POST", "/api/rate", {**given, **wrong}).status_code == 400
    lines = (run / RATINGS_FILE).read_text(encoding="utf-8").splitlines()
    assert [(line["rater"], line["choice"]) for line in map(json.loads, lines)] == [("Ina", 2)]


def test_a_word_that_the_house_learns_is_no_finding_any_more(tmp_path: Path) -> None:
    house = tmp_path / "haus"
    house.mkdir()
    (house / "house.yaml").write_text("name: Haus\nknown_words: []\n", encoding="utf-8")
    words = ["Knoerzelstube", "Trudelbank", "Plärrkuss"]
    typed = {"paragraphs": [{"text": f"Er geht zur {' zur '.join(words)} und trinkt Tee."}]}

    def unknown(browser: Browser) -> list[str]:
        findings = browser.post("/api/check", typed)["findings"]
        return [word for each in findings if each["check"] == "spelling" for word in each["words"]]

    with page(tmp_path, house=house) as (browser, _):
        before = unknown(browser)
        assert browser.ask("POST", "/api/words", {"word": "zwei Wörter"}).status_code == 400
        browser.post("/api/words", {"word": words[0]})
        assert (words[0] in before, words[0] in unknown(browser)) == (True, False)
        assert words[0] in (house / "house.yaml").read_text(encoding="utf-8")


def test_without_a_house_typing_is_kept_all_the_same(tmp_path: Path) -> None:
    with page(tmp_path, house=tmp_path / "none") as (browser, _):
        state = browser.ask("GET", "/api/state")
        assert (state.status_code, state.json()["error"]["code"]) == (400, 2)
        assert browser.ask("POST", "/api/check", {}).status_code == 400
        browser.put("/api/journal/d-0001", {"title": "Getippt"})
        assert browser.get("/api/journal/d-0001")["title"] == "Getippt"


@contextmanager
def command(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `synopsis page`, and give its process and its address."""
    line, variables = [COMMAND, "page", "--no-open", "--port", "0"], {**os.environ, **environment}
    with Forked[bytes](line, cwd=folder, stderr=subprocess.PIPE, env=variables) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline().decode()
            found = re.search(r"http://\S+", first)
            assert found is not None, first
            yield process, found[0]
        finally:
            process.kill()


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server_quietly(tmp_path: Path, ending: int, code: int) -> None:
    with command(tmp_path) as (process, address):
        with Browser(address) as browser:
            browser.get("/api/state")
            process.send_signal(ending)
            _, rest = process.communicate(timeout=120)
        assert (process.returncode, rest) == (code, b"")


def test_a_signal_ends_a_job_whose_events_are_streamed(tmp_path: Path) -> None:
    with LoopbackServer([StalledStream(ANSWER)]) as server:
        given = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        with command(tmp_path, **given) as (process, address), Browser(address) as browser:
            job = browser.post("/api/write", {"brief": BRIEF})["job"]
            with browser.client.stream("GET", f"/api/jobs/{job}/events") as stream:
                next(stream.iter_lines())
                process.send_signal(signal.SIGINT)
                _, rest = process.communicate(timeout=120)
    assert (process.returncode, b"Traceback" in rest, b"mistake" in rest) == (130, False, False), rest


def test_a_killed_server_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    text = {"title": "Getippt", "paragraphs": [{"text": "Er geht."}]}
    with command(tmp_path) as (process, address), Browser(address) as browser:
        for number in range(20):
            text["paragraphs"] = [{"text": f"Er geht zum {number}. Mal."}]
            browser.put("/api/journal/d-0123", text)
        process.kill()
        process.wait()
    with command(tmp_path) as (_, address), Browser(address) as browser:
        (draft,) = browser.get("/api/journal")["drafts"]
        assert (draft["draft"], draft["title"]) == ("d-0123", "Getippt")
        assert browser.get("/api/journal/d-0123")["paragraphs"][0]["text"] == "Er geht zum 19. Mal."


def test_a_port_in_use_is_one_line(terminal: Terminal, tmp_path: Path) -> None:
    with command(tmp_path) as (_, address):
        port = address.partition("/?")[0].rpartition(":")[2]
        run = terminal("page", "--no-open", "--port", port)
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1, port {port}: address already in use: name another" in run.err


def test_another_address_needs_to_be_asked_for(terminal: Terminal) -> None:
    run = terminal("page", "--host", "0.0.0.0")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "whoever reads that network" in run.err


def test_another_address_that_was_asked_for_says_what_it_means(tmp_path: Path) -> None:
    line = [COMMAND, "page", "--no-open", "--port", "0", "--host", "0.0.0.0", "--insecure"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        warning = process.stderr.readline().decode()
        process.kill()
    assert "0.0.0.0: whoever reads this network can read your texts, and change them" in warning


def test_a_house_that_cannot_be_read_is_one_line(terminal: Terminal) -> None:
    run = terminal("page", "--no-open", "--house", "none")
    assert (run.code, run.err) == (2, "synopsis: none: no such folder: name one that holds a house.yaml\n")


def test_without_the_extra_one_line_says_how_to_install_it(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synopsis_writer.cli.write.find_spec", lambda _: None)
    run = terminal("page")
    assert (run.code, run.err) == (2, "synopsis: the page needs an extra: pip install 'synopsis-writer[page]'\n")
