"""One of each file that the version before the rebuild wrote, and what today's command makes of it.

`make_old` wrote them, and ran once; `open_...` work on a copy.
"""

import csv
import gzip
import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.golden.command import ROOT, House
from tests.golden.material import CORPUS, DATA, GOOD, ORDER, closed_answer, good_answer, outline_answer
from tests.golden.scenes import (
    CASES,
    EVAL,
    HOSTED,
    NOBODY,
    ONE_BY_ONE,
    PATIENT,
    Scene,
    asked,
    briefs,
    facts_of,
    judgements,
    provider,
    reference,
    suite,
)
from tests.golden.servers import BatchServer, Fault, Hangup, LoopbackServer, Reply, restored_server, state_of

OLD = DATA / "old"
SECOND_THEME = "Ein Prozess, den niemand führen will"
_LARGE = 20_000  # bytes; what is larger is kept packed
PRICES = """\
currency = "EUR"
usd = 0.92
batch = 0.5

[models."haus-*"]
input = 0.10
cached = 0.05
output = 0.30
"""
CONFIG = """\
model = "haus-modell"
out = "texte"
attempts = 2
disable = ["hook"]
pinned = ["sturm-der-liebe/elf-torten"]
"""


def unpack(name: str, folder: Path) -> None:
    """Copy a folder of old files into `folder`, packed ones as they were, and the templates of then.

    With other templates a batch or a replay is not the same one, and is refused.
    """
    shutil.copytree(ROOT / "prompts", folder / "then" / "prompts")
    shutil.copytree(OLD / "prompts", folder / "then" / "prompts", dirs_exist_ok=True)
    for path in sorted((OLD / name).rglob("*")):
        place = folder / path.relative_to(OLD / name)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.suffix == ".gz":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def pack(folder: Path, name: str, *parts: str) -> None:
    """Keep parts of a folder as old files, without locks and what the cache unpacks."""
    files = [path for part in parts for path in ([folder / part, *(folder / part).rglob("*")])]
    for path in files:
        if not path.is_file() or path.suffix == ".lock" or "languages" in path.parts:
            continue
        place = OLD / name / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        if len(content) > _LARGE:
            place.with_name(place.name + ".gz").write_bytes(gzip.compress(content, 9, mtime=0))
        else:
            place.write_bytes(content)


def make_old(house: House) -> None:
    """Write all old files, by the version that is installed now."""
    for make in (
        _make_log_and_cache,
        _make_texts,
        _make_batches,
        _make_provider,
        _make_evals,
        _make_settings,
        _make_indexes,
    ):
        folder = house.folder / make.__name__
        folder.mkdir(parents=True)
        make(House(folder, house.shared))


def _make_log_and_cache(house: House) -> None:
    closed, good = Reply(closed_answer()), Reply(good_answer(), prompt_tokens=900, cached_tokens=700)
    with LoopbackServer(
        [Reply("Gern!"), good, closed, closed, closed, Fault(401), Reply(outline_answer()), closed, good],
        repeat_last=False,
        refuses=["json_schema"],
    ) as server:
        house("write", *ORDER, *HOSTED, server=server)
        time.sleep(1.1)  # so that the runs have an order
        house("write", *ORDER, *HOSTED, "--notes", "Kurz.", server=server)
        time.sleep(1.1)
        house("write", "--show", "GZSZ", "--theme", SECOND_THEME, *HOSTED, server=server)
        time.sleep(1.1)
        house("outline", *ORDER, *HOSTED, server=server)
        time.sleep(1.1)
        house("write", *ORDER, *HOSTED, "--best-of", "2", server=server)
        time.sleep(1.1)
        demo = ("write", "--show", "GZSZ", "--theme", "Ein Anwalt verliert seinen ersten Prozess")
        made = house(*demo, "--model", "packaged", "--seed", "3", "--form", "teaser")
        assert made.code == 0, made.err
        (house.folder / "cache" / "address").write_text(server.base_url, encoding="utf-8")
    pack(house.folder, "log", "runs.sqlite3")
    pack(house.folder, "cache", "cache/responses.sqlite3", "cache/dialects.json", "cache/address")


def _make_texts(house: House) -> None:
    for form in ("md", "json", "txt"):
        reply = Reply(good_answer(), prompt_tokens=900, cached_tokens=700)
        asked(house, [reply], "write", *ORDER, *HOSTED, "--format", form)
    with LoopbackServer([Reply(outline_answer())]) as server:
        plan = house("outline", *ORDER, *HOSTED, server=server).out
    (house.folder / "plan.yaml").write_text(plan, encoding="utf-8")
    profile = house("style", "calibrate", "--examples", str(CORPUS), "--name", "haus").out
    (house.folder / "profile.yaml").write_text(profile, encoding="utf-8")
    pack(house.folder, "texts", "synopsen", "plan.yaml", "profile.yaml")


def _make_batches(house: House) -> None:
    closed, good = Reply(closed_answer()), Reply(good_answer())
    briefs(house.folder, 3, "done.csv")
    asked(house, [good] * 3, "batch", "run", "done.csv", "--out", "done", *HOSTED, *ONE_BY_ONE)
    briefs(house.folder, 6, "half.csv")
    half = ("batch", "run", "half.csv", "--out", "half", *HOSTED, *ONE_BY_ONE)
    asked(house, [good, closed, Hangup(), good], *half, "--limit", "4")
    briefs(house.folder, 3, "varied.csv")
    once = ("--concurrency", "1", "--max-retries", "0", "--attempts", "1")
    asked(house, [good], "batch", "run", "varied.csv", "--out", "varied", *HOSTED, *once, "--limit", "1")
    pack(house.folder, "batches", "done", "half", "varied", "done.csv", "half.csv", "varied.csv")


def _make_provider(house: House) -> None:
    briefs(house.folder, 5)
    with BatchServer(provider) as server:
        submit = ("batch", "submit", "briefs.csv", *HOSTED)
        house(*submit, "--out", "submitted", "--limit", "4", server=server)
        state = state_of(server)
    with BatchServer(provider) as server:
        house(*submit, "--out", "fetched", server=server)
        house("batch", "fetch", "fetched", "--variety", "off", "--concurrency", "1", server=server)
    house(*submit, "--out", "files", "--to-files", "requests")
    (house.folder / "server.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    pack(house.folder, "provider", "submitted", "fetched", "files", "requests", "server.json", "briefs.csv")


def _make_evals(house: House) -> None:
    suite(house.folder)
    good = [reference(name) for name in CASES]
    judged = [reply for name in CASES for reply in judgements(facts_of(name))]
    asked(house, [*good, *judged], *EVAL, "--out", "run", "--judge", "judge-model")
    house("eval", "bless", "run")
    worse = [reference(CASES[0]), *(reference(name, paragraphs=2) for name in CASES[1:])]
    asked(house, worse, *EVAL, "--out", "worse")
    asked(house, [*good[:2], Fault(401)], *EVAL, "--out", "half")
    pack(house.folder, "evals", "evals", "run", "worse", "half")


def _make_settings(house: House) -> None:
    (house.folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    (house.folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    pack(house.folder, "settings", "config.toml", "prices.toml")


def large_pool(folder: Path) -> None:
    """Write 500 short examples: so many that their indexes are cached."""
    shows = {"rote-rosen": "Rote Rosen", "nord": "Nordlicht"}
    things = "Koffer Brief Garten Ofen Kahn Spiegel Pinsel Sattel Amboss Ring".split()
    places = "Lüneburg Bremen Husum Goslar Celle".split()
    for place, name in shows.items():
        (folder / place).mkdir(parents=True)
        cast = "cast:\n- {name: Gesa Meinecke, role: Schäferin, gender: f}\n"
        (folder / place / "show.yaml").write_text(f"name: {name}\n{cast}", encoding="utf-8")
    for number in range(500):
        place = list(shows)[number % 2]
        thing, town = things[number % 10], places[number // 10 % 5]
        text = (
            f"Gesa Meinecke sucht in {town} einen {thing} mit der Nummer {number} und findet ihn bei Tag {number * 7}."
        )
        head = (
            f"---\nbrief: {{show: {shows[place]}, theme: 'Der {thing} {number} aus {town}', "
            "form: portrait}\n"
            f"title: Nummer {number}\nlogline: Gesa Meinecke sucht einen {thing} in {town}.\n"
            "characters:\n- {name: Gesa Meinecke, role: Schäferin}\nstorylines: [A]\n---\n"
        )
        (folder / place / f"nummer-{number}.md").write_text(head + text + "\n", encoding="utf-8")


def _make_indexes(house: House) -> None:
    large_pool(house.folder / "pool")
    house("prompt", *ORDER, "--examples", "pool")
    house("check", "--json", str(GOOD), "--examples", "pool")
    pack(house.folder, "indexes", "cache/selection", "cache/copies")


def open_log(house: House) -> None:
    """Old runs are listed, shown, replayed, removed; new ones are added."""
    unpack("log", house.folder)
    runs = house("log", "list", "--json").data["runs"]
    house.note("ids", len({run["run"] for run in runs}))
    for run in runs:
        house("log", "show", run["run"], "--json")
    for run in runs:
        house("write", "--replay", run["run"], "--json", "--out", "again")
    asked(house, [Reply(good_answer())], "write", *ORDER, *HOSTED, "--json")
    house("log", "list", "--json", "--limit", "2")
    house("log", "rm", runs[0]["run"])
    house.note("left", len(house("log", "list", "--json", keep=False).data["runs"]))


def open_cache(house: House) -> None:
    """Cached answers are returned, though nobody answers at their server's address any more."""
    unpack("cache", house.folder)
    address = (house.folder / "cache" / "address").read_text(encoding="utf-8")
    forever = {"SYNOPSIS_CACHE_DAYS": "36500"}
    house("cache", "info", "--json", environment=forever)
    read = (*HOSTED, *PATIENT, "--cache", "read", "--base-url", address, "--json")
    house("write", *ORDER, *read, environment=forever)
    house("write", *ORDER, *read, "--notes", "Kurz.", "--attempts", "2", environment=forever)
    house("outline", *ORDER, *read[:-1], environment=forever)
    house("write", *ORDER, *read, environment=forever)


def open_server_capabilities(house: House) -> None:
    """What a server accepts is known: its first request is already right."""
    unpack("cache", house.folder)
    path = house.folder / "cache" / "dialects.json"
    address = (house.folder / "cache" / "address").read_text(encoding="utf-8").removeprefix("http://")
    with LoopbackServer([Reply(good_answer())], refuses=["json_schema"]) as server:
        text = path.read_text(encoding="utf-8").replace(address, server.base_url.removeprefix("http://"))
        data = json.loads(text)
        for entry in data["dialects"]:
            entry["since"] = time.time()  # it is forgotten after a month
        path.write_text(json.dumps(data), encoding="utf-8")
        house("write", *ORDER, *HOSTED, server=server)
    house.note("refused", sum(len(record.get("requests", ())) for record in house.records) - 1)


def open_texts(house: House) -> None:
    """Saved texts are checked, serve as examples, and a plan is written out."""
    unpack("texts", house.folder)
    saved = "synopsen/rote-rosen/der-weisse-hund"
    house("check", "--json", f"{saved}.md", f"{saved}.txt")
    house("check", "--json", f"{saved}.md", "--profile", "profile.yaml")
    house("check", "--json", f"{saved}.md", "--profile", "profile.yaml", "--form", "week")
    house.note("json", json.loads((house.folder / f"{saved}.json").read_text(encoding="utf-8")))
    house("examples", "list", "--json", "--examples", "synopsen")
    house("prompt", "--show", "RR", "--theme", "Ein Hund", "--examples", "synopsen", "--json")
    house("prompt", "--outline", "plan.yaml", "--json")
    house("prompt", "--outline", "plan.yaml", "--json", "--form", "week")
    asked(house, [Reply(good_answer())], "write", "--outline", "plan.yaml", *HOSTED, "--json")
    house.note("saved", sorted(path.name for path in (house.folder / "synopsen" / "rote-rosen").iterdir()))


def open_batches(house: House) -> None:
    """A done batch is exported; a half done one continues with exactly the rows that are to be made."""
    unpack("batches", house.folder)
    closed, good = Reply(closed_answer()), Reply(good_answer())
    for name in ("done", "half", "varied"):
        house("batch", "status", name, "--json")
    house("batch", "status", "half")
    for form in ("jsonl", "csv"):
        house("batch", "export", "half", "--format", form, "-o", f"texts.{form}")
        house.file(f"texts.{form}")
    house("batch", "export", "done", "--format", "md", "-o", "md")
    for path in sorted((house.folder / "md").rglob("*.md")):
        house.file(str(path.relative_to(house.folder)))
    asked(house, [], "batch", "run", "done.csv", "--out", "done", *HOSTED, *ONE_BY_ONE)
    run = ("batch", "run", "half.csv", "--out", "half", *HOSTED, *ONE_BY_ONE)
    asked(house, [], *run, "--disable", "hook")
    asked(house, [good, good], *run)
    asked(house, [good], *run, "--retry", "failed")
    asked(house, [closed], *run, "--retry", "refused")
    house("batch", "status", "half", "--json")
    asked(house, [good], *run, "--retry", "refused")
    # The first row's text is indexed already: the others are held against it.
    once = ("--concurrency", "1", "--max-retries", "0", "--attempts", "1")
    asked(house, [good, good], "batch", "run", "varied.csv", "--out", "varied", *HOSTED, *once)
    house("batch", "status", "varied", "--json")
    asked(house, [good] * 3, "batch", "run", "done.csv", "--out", "done", *HOSTED, *ONE_BY_ONE, "--fresh")
    house.note("files", sorted(path.name for path in (house.folder / "done").glob("*.sqlite3")))


def open_provider(house: House) -> None:
    """A batch that is at a provider is fetched, repaired and submitted again."""
    unpack("provider", house.folder)
    state: dict[str, Any] = json.loads((house.folder / "server.json").read_text(encoding="utf-8"))
    for name in ("submitted", "fetched", "files"):
        house("batch", "status", name, "--json")
    with restored_server(state, provider) as server:
        with closing(sqlite3.connect(house.folder / "submitted" / "batch.sqlite3")) as database, database:
            place = server.base_url.removeprefix("http://")
            count = database.execute("UPDATE shards SET server = ? WHERE server <> ''", (place,)).rowcount
            assert count == 1
        fetched = ("batch", "run", "briefs.csv", "--out", "fetched", *HOSTED, *ONE_BY_ONE)
        asked(house, [Reply(good_answer())], *fetched)  # row 3 expired, and is to be made again
        house("batch", "fetch", "submitted", "--variety", "off", "--concurrency", "1", server=server)
        house("batch", "status", "submitted", "--json")
        house("batch", "fetch", "fetched", server=server)
        again = ("batch", "submit", "briefs.csv", "--out", "submitted", *HOSTED, "--retry", "failed")
        house(*again, server=server)
        house("batch", "cancel", "submitted", server=server)
        house("batch", "fetch", "submitted", "--variety", "off", server=server)
    house("batch", "export", "fetched", "--format", "csv", "-o", "fetched.csv")
    with (house.folder / "fetched.csv").open(encoding="utf-8", newline="") as file:
        house.note("rows", [row["id"] for row in csv.DictReader(file)])
    (requests,) = (house.folder / "requests").iterdir()
    lines = [json.loads(line) for line in requests.read_text(encoding="utf-8").splitlines()]
    results = [
        {
            "id": line["custom_id"],
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "request_id": "r", "body": Reply(good_answer()).as_data("m")},
            "error": None,
        }
        for line in lines
    ]
    text = "".join(json.dumps(result) + "\n" for result in results)
    (house.folder / "results.jsonl").write_text(text, encoding="utf-8")
    house("batch", "fetch", "files", "--from-file", "results.jsonl", *HOSTED, "--variety", "off")


def open_evals(house: House) -> None:
    """Old runs are scored, compared, reported and exported; a half made one continues; baselines are used."""
    unpack("evals", house.folder)
    house("eval", "score", "run")
    house("eval", "compare", "run", "worse")
    house("eval", "compare", "worse", "run")
    for form in ("jsonl", "csv", "junit"):
        house("eval", "export", "run", "--format", form, "-o", f"run.{form}")
        house.file(f"run.{form}")
    house("eval", "report", "worse", "-o", "report.html", "--against", "run")
    page = (house.folder / "report.html").read_text(encoding="utf-8")
    house.note("report", {"is whole": page.rstrip().endswith("</html>"), "names": [name in page for name in CASES]})
    judged = [step for name in CASES for step in judgements(facts_of(name))]
    asked(house, judged, *EVAL, "--out", "run", "--judge", "judge-model")
    asked(house, [], *EVAL, "--out", "worse")
    asked(house, [reference(name) for name in CASES[2:]], *EVAL, "--out", "half")
    house("eval", "bless", "run")


def open_settings(house: House) -> None:
    """The config file and the table of prices are still read."""
    unpack("settings", house.folder)
    own = {"SYNOPSIS_CONFIG": "config.toml"}
    house("prompt", *ORDER, "--json", environment=own)
    reply = Reply(closed_answer(), prompt_tokens=10_000, cached_tokens=4000, completion_tokens=900)
    asked(house, [reply], "write", *ORDER, "--json", environment=own)
    asked(house, [], "write", *ORDER, "--budget", "0.0001", environment=own)
    house("models", "--json", environment={"OPENAI_BASE_URL": NOBODY, **own})


def open_indexes(house: House) -> None:
    """With old indexes in the cache a large pool gives what it gave; they may be used, or rebuilt."""
    unpack("indexes", house.folder)
    large_pool(house.folder / "pool")
    house("prompt", *ORDER, "--examples", "pool", "--json")
    house("check", "--json", str(GOOD), "--examples", "pool")
    house("prompt", *ORDER, "--examples", "pool", "--json")


OLD_SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        open_log,
        open_cache,
        open_server_capabilities,
        open_texts,
        open_batches,
        open_provider,
        open_evals,
        open_settings,
        open_indexes,
    )
}
