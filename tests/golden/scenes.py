"""Runs of the command whose every answer is frozen: what it prints, asks and saves."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.golden.command import ROOT, House
from tests.golden.material import CORPUS, GOOD, ORDER, THEME, answer_of, closed_answer, good_answer, outline_answer
from tests.golden.servers import BatchServer, Fault, Hangup, LoopbackServer, Reply, Unasked
from tests.support.judging import JudgeServer, reply, scores

Scene = Callable[[House], None]
Steps = Sequence[Reply | Fault | Hangup]
NOBODY = "http://127.0.0.1:9/v1"
HOSTED = ("--model", "m")
PATIENT = ("--max-retries", "0")
ONE_BY_ONE = ("--concurrency", "1", "--max-retries", "0", "--attempts", "1", "--variety", "off")
CASES = ("abtrift", "am-kurzen-band", "bis-neun", "das-fehlende-nicken")


def asked(
    house: House,
    steps: Steps,
    *arguments: str,
    refuses: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run a command against a server that plays the steps, and no more."""
    with JudgeServer(steps, repeat_last=False, refuses=refuses) as server:
        house(*arguments, server=server, environment=environment)


def write_accepted(house: House) -> None:
    reply = Reply(good_answer(), prompt_tokens=900, cached_tokens=700, completion_tokens=800)
    asked(house, [reply], "write", *ORDER, *HOSTED, "--json")
    house.file("synopsen/rote-rosen/der-weisse-hund.md")
    asked(house, [reply], "write", *ORDER, *HOSTED)
    house.file("synopsen/rote-rosen/der-weisse-hund-2.md")
    asked(house, [reply], "write", *ORDER, *HOSTED, "--format", "json", "--out", "json")
    house.file("json/rote-rosen/der-weisse-hund.json")
    asked(house, [reply], "write", *ORDER, *HOSTED, "--format", "txt", "--out", "txt", "-q")
    house.file("txt/rote-rosen/der-weisse-hund.txt")


def write_repaired(house: House) -> None:
    closed, good = Reply(closed_answer()), Reply(good_answer())
    asked(house, [Reply("Gern!"), closed, good], "write", *ORDER, *HOSTED, "--json")
    cut = Reply(good_answer()[:900], finish="length")
    asked(house, [cut, good], "write", *ORDER, *HOSTED, "--json", environment={"SYNOPSIS_TEMPERATURE": "0.4"})
    asked(house, [Reply("", refusal="Das kann ich nicht."), good], "write", *ORDER, *HOSTED, "--json")
    filtered = Reply("", finish="content_filter")
    short = {"SYNOPSIS_MAX_TOKENS": "900"}
    asked(house, [filtered, good], "write", *ORDER, *HOSTED, "--json", environment=short)
    fenced = Reply("Hier ist sie:\n```json\n" + good_answer() + "\n```")
    asked(house, [fenced], "write", *ORDER, *HOSTED, "--json")
    many = good_answer().replace("Gesa ", "GESA ").replace("ä", "ae").replace("Der ", "The ")
    asked(house, [Reply(many), good], "write", *ORDER, *HOSTED, "--json")
    asked(house, [Reply("Gern!"), Reply("Gern!")], "write", *ORDER, *HOSTED, "--json", "--attempts", "2")


def write_refused(house: House) -> None:
    closed = Reply(closed_answer())
    asked(house, [closed], "write", *ORDER, *HOSTED, "--json", "--attempts", "1")
    asked(house, [closed], "write", *ORDER, *HOSTED, "--json", "--attempts", "1", "--keep-rejected", "refused")
    house.file("refused/der-weisse-hund.md")
    unstructured = ("--attempts", "1", "--keep-rejected", "refused")
    asked(house, [Reply("Gern!")], "write", *ORDER, *HOSTED, "--json", *unstructured)
    asked(house, [closed], "write", *ORDER, *HOSTED, "--json", "--attempts", "1", "--disable", "hook")


def write_failed(house: House) -> None:
    asked(house, [Fault(401)], "write", *ORDER, *HOSTED, "--json")
    asked(house, [Reply(closed_answer()), Fault(401)], "write", *ORDER, *HOSTED, "--json")
    asked(house, [Fault(500)] * 2, "write", *ORDER, *HOSTED, *PATIENT, "--json")
    asked(house, [Hangup()], "write", *ORDER, *HOSTED, *PATIENT, "--json")
    asked(house, [Fault(429, code="insufficient_quota")], "write", *ORDER, *HOSTED, "--json")
    asked(house, [], "write", *ORDER, *HOSTED, "--max-tokens-total", "100", "--json")
    asked(house, [Reply(good_answer())], "write", *ORDER, *HOSTED, "--max-tokens-total", "100000", "--json")


def servers_that_take_less(house: House) -> None:
    refused = (
        ("json_schema",),
        ("json_schema", "json_object"),
        ("max_completion_tokens",),
        ("temperature", "prompt_cache_key"),
    )
    for fields in refused:
        write = ("write", *ORDER, *HOSTED, "--no-log")
        warm = {"SYNOPSIS_TEMPERATURE": "0.7"}
        asked(house, [Reply(good_answer())], *write, refuses=fields, environment=warm)
        shutil.rmtree(house.folder / "cache")


def best_of(house: House) -> None:
    with LoopbackServer([Reply(closed_answer())] * 2 + [Reply(good_answer())], repeat_last=False) as server:
        house("write", *ORDER, *HOSTED, "--best-of", "2", "--json", server=server)
    house("log", "show", "--json")


def outline(house: House) -> None:
    plan = Reply(outline_answer())
    with LoopbackServer([Reply("Gern!"), plan], repeat_last=False) as server:
        made = house("outline", *ORDER, *HOSTED, server=server)
    (house.folder / "plan.yaml").write_text(made.out, encoding="utf-8")
    house("prompt", "--outline", "plan.yaml", "--json")
    asked(house, [Reply(good_answer())], "write", "--outline", "plan.yaml", *HOSTED, "--json")
    asked(house, [Reply(closed_answer()), Reply(good_answer())], "write", "--outline", "plan.yaml", *HOSTED)
    asked(house, [Reply("Gern!")], "outline", *ORDER, *HOSTED, "--attempts", "1")
    house("log", "list", "--json")


def log_and_cache(house: House) -> None:
    asked(house, [Reply("Gern!"), Reply(good_answer(), prompt_tokens=900)], "write", *ORDER, *HOSTED)
    asked(house, [Fault(401)], "write", "--show", "GZSZ", "--theme", "Ein Prozess", *HOSTED)
    runs = house("log", "list", "--json", "--limit", "5").data["runs"]
    house("log", "show", "--json")
    house("cache", "info", "--json")
    house("write", "--replay", runs[1]["run"], "--json")
    house("write", "--replay", "last", "--json")
    house("log", "rm", "--all", "--yes")
    house("log", "list", "--json")
    house("cache", "clear")
    house("cache", "info", "--json")


def pool_and_models(house: House) -> None:
    house("examples", "list", "--json")
    house("examples", "list", "--json", "--show", "rr", "--form", "portrait")
    house("examples", "show", "rote-rosen/reine-herztoene")
    house("examples", "check")
    house("models", "--json", "--model", "gpt-5.4-mini", environment={"OPENAI_BASE_URL": NOBODY})
    house("models", "--json", environment={"OPENAI_BASE_URL": NOBODY, "SYNOPSIS_HOSTED_MODEL": "haus"})
    with LoopbackServer([], models=("erstes", "zweites")) as server:
        house("models", "--json", server=server)
    with LoopbackServer([], models=Fault(500)) as server:
        house("models", "--json", server=server)


def own_pool(house: House) -> None:
    """A text is added to a pool, and shown by a prompt; limits are learnt from a folder, and applied."""
    texts = house.folder / "texts"
    texts.mkdir()
    for path in sorted(CORPUS.glob("rote-rosen/*.md"))[:3]:
        shutil.copy(path, texts)
    house("style", "calibrate", "--examples", "texts", "--form", "portrait", "--name", "haus")
    profile = house("style", "calibrate", "--examples", "texts", keep=False).out
    (house.folder / "profile.yaml").write_text(profile, encoding="utf-8")
    other = CORPUS / "sturm-der-liebe"
    house("check", "--json", "--profile", "profile.yaml", str(min(other.glob("*.md"))))
    plain = GOOD.read_text(encoding="utf-8").split("---\n", 2)[2].strip()
    (house.folder / "mine.txt").write_text("Mein Hund\n\n" + plain, encoding="utf-8")
    added = ("--show", "rr", "--theme", "Ein Hund in Gefahr", "--form", "portrait", "--title", "Mein Hund")
    logline = ("--logline", "Eine Schäferin soll ihren Hund fortgeben, der gebissen hat.")
    people = ("--character", "Gesa Meinecke: Schäferin", "--character", "Hendrik Althaus: Unternehmer")
    house("examples", "add", "mine.txt", *added, *logline, *people, "--examples", "pool")
    for path in sorted((house.folder / "pool").rglob("*")):
        if path.is_file():
            house.file(str(path.relative_to(house.folder)))
    house("examples", "list", "--json", "--examples", "pool")
    house("prompt", *ORDER, "--examples", "pool", "--json")


def check_formats(house: House) -> None:
    closed = GOOD.read_text(encoding="utf-8").replace("?", ".")
    (house.folder / "closed.md").write_text(closed, encoding="utf-8")
    plain = closed.split("---\n", 2)[2]
    (house.folder / "plain.txt").write_text(plain, encoding="utf-8")
    house("check", "closed.md")
    house("check", "closed.md", "--format", "github")
    house("check", "closed.md", "--format", "json", "--form", "episode", "--show", "gzsz", "--theme", "Ein Hund")
    house("check", "plain.txt", "--json")
    house("check", "-", "--json", "--form", "portrait", stdin=plain.encode())
    house("check", "-", "--json", "--disable", "hook", "--disable", "cast", stdin=closed.encode())
    house("check", "plain.txt", "closed.md", "missing.md", "--json")
    crlf = b"\xef\xbb\xbf" + closed.replace("\n", "\r\n").encode()
    house("check", "-", "--json", stdin=crlf)


def briefs(folder: Path, rows: int, name: str = "briefs.csv") -> None:
    """Write briefs whose notes say which row they are."""
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "show", "theme", "form", "character", "notes"])
        for number in range(rows):
            people = "Gesa Meinecke | Hendrik Althaus"
            writer.writerow([f"row-{number}", "Rote Rosen", THEME, "portrait", people, f"Zeile {number}."])


def batch_run(house: House) -> None:
    briefs(house.folder, 4)
    run = ("batch", "run", "briefs.csv", "--out", "out", *HOSTED, *ONE_BY_ONE)
    good = Reply(good_answer())
    asked(house, [good, Reply(closed_answer()), Hangup(), Fault(401)], *run)
    house("batch", "status", "out", "--json")
    asked(house, [good], *run)
    asked(house, [good], *run, "--retry", "failed")
    asked(house, [], *run, "--disable", "hook")
    house("batch", "status", "out", "--json")
    house("batch", "status", "out")
    for form in ("jsonl", "csv"):
        house("batch", "export", "out", "--format", form, "-o", f"texts.{form}")
        house.file(f"texts.{form}")
    house("batch", "export", "out", "--format", "md", "-o", "texts")
    house.note("files", sorted(str(path.relative_to(house.folder)) for path in (house.folder / "texts").rglob("*.md")))


def batch_variety(house: House) -> None:
    """Texts of one batch are compared, and a repair gets the findings; an arc passes on earlier rows."""
    briefs(house.folder, 2)
    once = ("--concurrency", "1", "--max-retries", "0")
    good = Reply(good_answer())
    run = ("batch", "run", "briefs.csv", "--out", "out", *HOSTED, *once, "--attempts", "2")
    asked(house, [good, good, good], *run)
    house("batch", "status", "out", "--json")
    facts = "- Gesa Meinecke hat den Hund behalten.\n- Hendrik Althaus hat gelogen.\n"
    arc = f"row-0:\n{facts}row-1: Der Züchter kommt.\n"
    (house.folder / "arc.yaml").write_text(arc, encoding="utf-8")
    told = ("batch", "run", "briefs.csv", "--out", "arc", *HOSTED, *ONE_BY_ONE)
    asked(house, [good, good], *told, "--arc", "arc.yaml")


def row_of(body: Any) -> int:
    """Return which row a request is for."""
    text = next(turn["content"] for turn in reversed(body["messages"]) if "Zeile " in turn["content"])
    return int(text.rpartition("Zeile ")[2].split(".")[0])


def provider(body: Any) -> Reply | Fault | Unasked:
    """Answer as the provider of the fixtures does: row 1 needs a repair, 2 fails, 3 expires."""
    is_repair = "Zeile " not in body["messages"][-1]["content"]
    match row_of(body):
        case 1 if not is_repair:
            return Reply(closed_answer(), completion_tokens=60)
        case 2:
            return Fault(400, message="This request is refused.")
        case 3:
            return Unasked()
        case _:
            return Reply(good_answer(), prompt_tokens=200, cached_tokens=100)


def provider_batch(house: House) -> None:
    briefs(house.folder, 5)
    with BatchServer(provider) as server:
        house("batch", "submit", "briefs.csv", "--out", "out", *HOSTED, "--limit", "4", server=server)
        house("batch", "status", "out", "--json")
        house("batch", "fetch", "out", "--variety", "off", "--concurrency", "1", server=server)
        house("batch", "status", "out", "--json")
        house("batch", "submit", "briefs.csv", "--out", "out", *HOSTED, "--retry", "failed", server=server)
        house("batch", "cancel", "out", server=server)
        house("batch", "status", "out", "--json")


def provider_files(house: House) -> None:
    briefs(house.folder, 3)
    submit = ("batch", "submit", "briefs.csv", "--out", "out", *HOSTED, "--to-files", "files")
    house(*submit)
    (path,) = (house.folder / "files").iterdir()
    lines = path.read_text(encoding="utf-8").splitlines()
    house.note("requests", [json.loads(line) for line in lines])
    results = [
        {
            "id": f"r{place}",
            "custom_id": json.loads(line)["custom_id"],
            "response": {"status_code": 200, "request_id": "r", "body": Reply(good_answer()).as_data("m")},
            "error": None,
        }
        for place, line in enumerate(lines[:2])
    ]
    text = "".join(json.dumps(result) + "\n" for result in results)
    (house.folder / "results.jsonl").write_text(text, encoding="utf-8")
    house("batch", "status", "out", "--json")
    house("batch", "fetch", "out", "--from-file", "results.jsonl", *HOSTED, "--variety", "off")
    house("batch", "status", "out", "--json")


def suite(folder: Path) -> None:
    """Write a suite of four cases."""
    cases = folder / "evals" / "cases"
    cases.mkdir(parents=True)
    for name in CASES:
        shutil.copy(ROOT / "evals" / "cases" / f"{name}.md", cases)
    text = "groups: {small: [abtrift, bis-neun]}\nthresholds: {passed: {min: 0.5}}\nwatched: [passed, facts]\n"
    (folder / "evals" / "suite.yaml").write_text(text, encoding="utf-8")


def reference(name: str, *, paragraphs: int | None = None) -> Reply:
    """Return a case's reference as an answer; the gate refuses one of two paragraphs."""
    data = json.loads(answer_of(ROOT / "evals" / "cases" / f"{name}.md"))
    data["paragraphs"] = data["paragraphs"][:paragraphs]
    return Reply(json.dumps(data, ensure_ascii=False), prompt_tokens=5000, completion_tokens=800)


def judgements(facts: int) -> list[Reply]:
    """Return what a judge says of one text: its scores, and its preference in both orders."""
    said = [{"number": number, "said": number % 3 > 0} for number in range(1, facts + 1)]
    scales = {"coherence": 5, "theme": 4, "style": 4, "language": 5}
    return [scores(facts, facts=said, **scales), reply("second"), reply("second")]


def facts_of(name: str) -> int:
    """Return how many items the checklist of a case has."""
    import yaml

    _, head, _ = (ROOT / "evals" / "cases" / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    meta = yaml.safe_load(head)
    return len(meta["brief"].get("beats", [])) + len(meta["facts"])


EVAL = ("eval", "run", *HOSTED, "--concurrency", "1", "--max-retries", "0", "--attempts", "1")


def eval_runs(house: House) -> None:
    suite(house.folder)
    good = [reference(name) for name in CASES]
    asked(house, [*good[:2], Hangup(), *good[3:]], *EVAL, "--out", "run")
    asked(house, good[2:3], *EVAL, "--out", "run")
    house("eval", "score", "run")
    house("eval", "bless", "run")
    worse = [reference(CASES[0]), *(reference(name, paragraphs=2) for name in CASES[1:])]
    asked(house, worse, *EVAL, "--out", "worse")
    house("eval", "compare", "run", "worse")
    for form in ("jsonl", "csv", "junit"):
        house("eval", "export", "worse", "--format", form, "-o", f"worse.{form}")
        house.file(f"worse.{form}")
    for name in ("run/run.json", "worse/results.jsonl"):
        house.file(name)


def eval_judge(house: House) -> None:
    suite(house.folder)
    steps = [reference("bis-neun"), *judgements(facts_of("bis-neun"))]
    asked(house, steps, *EVAL, "--out", "run", "--cases", "bis-neun", "--judge", "judge-model")
    house.file("run/judged.jsonl")
    unreadable = Reply("Beide gut.")
    with JudgeServer([unreadable, reply("first")]) as server:
        order = ("--judge", "j", "--cases", "bis-neun", "--concurrency", "1")
        house("eval", "judge-check", *order, server=server)


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        write_accepted,
        write_repaired,
        write_refused,
        write_failed,
        servers_that_take_less,
        best_of,
        outline,
        log_and_cache,
        pool_and_models,
        own_pool,
        check_formats,
        batch_run,
        batch_variety,
        provider_batch,
        provider_files,
        eval_runs,
        eval_judge,
    )
}
