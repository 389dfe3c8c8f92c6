"""The Ray engine through the real command: two nodes on this machine; nodes and drivers die."""

import contextlib
import csv
import json
import os
import pickle
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from synopsis_writer.batch.run import Order
from synopsis_writer.cluster import calls_left, worker_count
from synopsis_writer.errors import RequestRefusedError
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel
from synopsis_writer.settings import load_settings
from synopsis_writer.usage import Spent
from tests.support.forked import ENDING, read_until, wait_for
from tests.support.loopback import LoopbackServer, Reply, Request, Silence, Step
from tests.support.terminal import ANSWER, COMMAND, GOOD, PATH, Run, Terminal

STARTED = b"Ray runtime started"


@dataclass
class Nodes:
    """A head and a further node of one CPU each, which demand a token; one can be killed like a machine."""

    folder: Path
    port: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--engine", "ray", "--address", f"127.0.0.1:{self.port}")

    @property
    def token(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}

    def start_second(self) -> None:
        # The SDK sends this along, so that a server sees which node asks.
        self.start("--address", f"127.0.0.1:{self.port}", OPENAI_CUSTOM_HEADERS="X-Node: second")

    def start(self, *flags: str, **environment: str) -> None:
        (self.folder / "token").write_text("0123456789abcdef" * 4, encoding="utf-8")
        small = ("--block", "--num-cpus", "1", "--object-store-memory", "80000000", "--disable-usage-stats")
        log = self.folder / f"node-{len(self.running)}.log"
        with log.open("wb") as message:
            node = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", *flags, *small],
                env={**os.environ, "HOME": str(self.folder), **self.token, **environment},
                stdout=message,
                stderr=message,
                start_new_session=True,
            )
        self.running.append(node)
        while STARTED not in log.read_bytes():
            assert node.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.05)

    def kill_last(self) -> None:
        node = self.running.pop()
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@contextlib.contextmanager
def started() -> Iterator[Nodes]:
    """Have a head while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Ray's sockets lie in this folder, and a socket's path may have 107 bytes: pytest's own is too long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        nodes = Nodes(Path(folder), port)
        head = ("--head", "--port", str(port), "--include-dashboard=false", "--temp-dir", folder)
        # A dead node is known to be dead after a second, and not after twenty.
        quick = {"RAY_health_check_period_ms": "300", "RAY_health_check_failure_threshold": "2"}
        try:
            nodes.start(*head, **quick)
            yield nodes
        finally:
            while nodes.running:
                nodes.kill_last()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with started() as nodes:
        nodes.start_second()
        yield nodes


@pytest.fixture
def nodes(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    for name, value in cluster.token.items():
        monkeypatch.setenv(name, value)
    return cluster


def briefs(folder: Path, rows: int) -> None:
    with (folder / "briefs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "show", "theme", "form"])
        writer.writerows([f"row-{n}", "Rote Rosen", GOOD.brief.theme, "portrait"] for n in range(rows))


BATCH = ("batch", "run", "briefs.csv", "--out", "out", "--max-retries", "0", "--cache", "off")


def run(terminal: Terminal, server: LoopbackServer, *flags: str) -> Run:
    return terminal.process(*BATCH, *flags, server=server)


def start(folder: Path, server: LoopbackServer, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [COMMAND, *BATCH, "--variety", "off", *flags],
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def statuses(folder: Path) -> list[str]:
    database = sqlite3.connect(folder / "out" / "batch.sqlite3")
    found = [row[0] for row in database.execute("SELECT status FROM rows ORDER BY place")]
    assert database.execute("SELECT max(n) FROM (SELECT count(*) n FROM answers GROUP BY row, number)").fetchone() in {
        (1,),
        (None,),
    }
    database.close()
    return found


class Patient(LoopbackServer):
    """A server that keeps a row for the second node, whose worker may come up late, and answers it four."""

    def __init__(self, step: Step) -> None:
        super().__init__([step])
        self.second = 0
        self.has_second = threading.Event()

    def answer(self, request: Request) -> Step:
        step = super().answer(request)
        if request.headers.get("x-node") == "second":
            self.second += 1
            self.has_second.set()
            if self.second > 4:
                self.stopping.wait()  # until that node is killed
        self.has_second.wait(5)
        return step


class Slow(LoopbackServer):
    """A server that takes a second for an answer."""

    def __init__(self, step: Step) -> None:
        super().__init__([step])

    def answer(self, request: Request) -> Step:
        step = super().answer(request)
        self.stopping.wait(1)
        return step


class Clocked(LoopbackServer):
    """A server that notes when it is asked."""

    def __init__(self, step: Step) -> None:
        super().__init__([step])
        self.times: deque[float] = deque()

    def answer(self, request: Request) -> Step:
        self.times.append(time.monotonic())
        return super().answer(request)


def test_a_killed_node_loses_no_row_and_saves_none_twice(nodes: Nodes, tmp_path: Path) -> None:
    rows, in_flight = 60, 8
    briefs(tmp_path, rows)
    with Patient(Reply(ANSWER)) as server:
        process = start(tmp_path, server, *nodes.flags, "--concurrency", str(in_flight))
        wait_for(lambda: server.second > 4, process)
        nodes.kill_last()
        out, message = process.communicate(timeout=120)
        asked = len(server.chats)
    nodes.start_second()
    assert (process.returncode, out.splitlines()[0]) == (
        0,
        f"{rows} rows: {rows} accepted, 0 refused, 0 failed, 0 pending".encode(),
    ), message
    assert b"died, handed to others: " in message
    assert b"workers 2" in message
    assert b"Traceback" not in message
    assert statuses(tmp_path) == ["accepted"] * rows
    lost = [int(count) for count in re.findall(rb"handed to others: (\d+) row", message)]
    assert len(lost) == 1
    assert lost[0] <= in_flight / 2  # a row goes to the worker with the fewest
    assert rows <= asked <= rows + lost[0]


def test_limits_apply_in_total_and_ray_stores_no_key(nodes: Nodes, terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 13)
    with Clocked(Reply(ANSWER)) as server:
        flags = (*nodes.flags, "--variety", "off", "--concurrency", "16", "--rpm", "150")
        done = run(terminal, server, *flags)
    assert (done.code, statuses(tmp_path)) == (0, ["accepted"] * 13)
    assert "workers 2" in done.err
    logged = json.loads(terminal("log", "list", "--json", "--limit", "99").out)["runs"]
    assert [(run["command"], run["outcome"]) for run in logged] == [("batch", "done")] * 13
    # 13 calls, five in two seconds, of which each worker may begin with one at once: 4.4 s, and longer on a
    # busy machine. Workers that had the whole pace each would take half of that.
    assert server.times[-1] - server.times[0] > 3.0
    for path in nodes.folder.rglob("*"):
        if path.is_file():
            assert b"sk-secret" not in path.read_bytes(), path


def test_a_wrong_key_ends_the_batch_with_one_line(nodes: Nodes, terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 20)
    with LoopbackServer([], key="another") as server:
        done = run(terminal, server, *nodes.flags, "--quiet", "--concurrency", "4")
        asked = len(server.chats)
    assert (done.code, len(done.err.splitlines())) == (3, 1), done.err
    assert "OPENAI_API_KEY" in done.err
    assert statuses(tmp_path) == ["pending"] * 20
    assert asked <= 4


@pytest.mark.slow
def test_a_row_that_resembles_another_is_repaired(nodes: Nodes, terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    with LoopbackServer([Reply(ANSWER)]) as server:
        flags = (*nodes.flags, "--concurrency", "2", "--attempts", "2")
        done = run(terminal, server, *flags)
        asked = [json.dumps(request.body, ensure_ascii=False) for request in server.chats]
    assert done.code == 1, done.err
    assert sorted(statuses(tmp_path)) == ["accepted", "refused"]
    assert ["variety_copy" in request for request in asked] == [False, False, True]


@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once(nodes: Nodes, tmp_path: Path) -> None:
    briefs(tmp_path, 20)
    with LoopbackServer([Silence(600)]) as server:
        process = start(tmp_path, server, *nodes.flags, "--concurrency", "2")
        wait_for(lambda: len(server.chats) >= 2, process)
        process.send_signal(signal.SIGINT)
        message = read_until(process, ENDING)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in message + rest.decode()
    assert statuses(tmp_path) == ["pending"] * 20


@pytest.mark.slow
def test_answers_that_cannot_be_saved_are_printed(nodes: Nodes, tmp_path: Path) -> None:
    briefs(tmp_path, 20)
    with LoopbackServer([Reply(ANSWER)]) as server:
        server.allow(2)
        process = start(tmp_path, server, *nodes.flags, "--concurrency", "2")
        wait_for(lambda: len(server.chats) >= 4, process)
        with contextlib.closing(sqlite3.connect(tmp_path / "out" / "batch.sqlite3")) as other:
            # Like another program that holds the record, but without the ten seconds until that is given up.
            other.execute("CREATE TRIGGER held BEFORE UPDATE ON rows BEGIN SELECT RAISE(ABORT, 'held'); END")
            other.commit()
            server.allow()
            out, message = process.communicate(timeout=120)
        asked = len(server.chats)
    assert process.returncode == 2, message
    printed = [json.loads(line) for line in out.splitlines()]
    saved = statuses(tmp_path).count("accepted")
    assert len(printed) == asked - saved > 0
    assert all(row["answers"] == [ANSWER] for row in printed)
    assert f"{len(printed)} rows cannot be saved".encode() in message


@pytest.mark.slow
def test_a_killed_head_ends_the_batch_and_the_same_command_continues(tmp_path: Path) -> None:
    briefs(tmp_path, 100)
    with started() as own, Slow(Reply(ANSWER)) as server:
        process = start(tmp_path, server, *own.flags, "--concurrency", "2", **own.token)
        wait_for(lambda: len(server.chats) >= 6, process)
        own.kill_last()
        out, message = process.communicate(timeout=120)  # Ray would end it after 60 s, but with code 1
    assert (process.returncode, out) == (3, b"")
    assert b"the cluster's head does not answer: start it again" in message.splitlines()[-1]
    assert statuses(tmp_path).count("accepted") >= 4
    with started() as own, LoopbackServer([Reply(ANSWER)]) as server:
        again = start(tmp_path, server, *own.flags, **own.token)
        _, message = again.communicate(timeout=120)
    assert again.returncode == 0, message


@pytest.mark.slow
def test_a_killed_driver_ends_its_workers_and_the_batch_can_be_continued(nodes: Nodes, tmp_path: Path) -> None:
    rows, in_flight = 40, 4
    briefs(tmp_path, rows)
    flags = (*nodes.flags, "--concurrency", str(in_flight))
    with LoopbackServer([Reply(ANSWER)]) as server:
        server.allow(10)
        process = start(tmp_path, server, *flags)
        wait_for(lambda: len(server.chats) >= 10 + in_flight, process)
        process.kill()
        process.communicate()
        server.allow()
        saved = statuses(tmp_path).count("accepted")
        again = start(tmp_path, server, *flags)
        _, message = again.communicate(timeout=120)
        asked = len(server.chats)
    assert 0 < saved < rows
    assert again.returncode == 0, message
    assert statuses(tmp_path) == ["accepted"] * rows
    assert rows <= asked <= rows + in_flight


@pytest.mark.slow
def test_a_budget_is_divided_and_never_exceeded(nodes: Nodes, terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 20)
    with LoopbackServer([Reply(ANSWER, prompt_tokens=9000)]) as server:
        flags = (*nodes.flags, "--variety", "off", "--concurrency", "2", "--max-tokens-total", "80000")
        done = run(terminal, server, *flags)
        asked = len(server.chats)
    assert done.code == 3
    assert "that is the part of one worker of 2" in done.err
    assert 0 < asked * 9050 <= 80_000
    assert statuses(tmp_path).count("accepted") == asked


@pytest.mark.parametrize(
    ("budget", "calls"),
    [
        (Budget(), None),
        (Budget(tokens=18_000), 1),  # a part of 9000 would have no room for a call of 17,800
        (Budget(tokens=18_000, spent=Spent(tokens=12_000)), 0),
        (Budget(tokens=36_000), 2),
        (Budget(Decimal("0.01"), 900_000), 0),
    ],
)
def test_a_budget_is_not_divided_into_parts_too_small_for_a_call(
    budget: Budget, calls: int | None, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."m"]\ninput = 1.00\noutput = 2.00\n', encoding="utf-8")
    settings = load_settings({"prices": prices})
    assert calls_left(budget, ResolvedModel("hosted", "m", "given"), settings, {}) == calls


def test_a_wrong_or_missing_token_is_reported_in_one_line(cluster: Nodes, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    (tmp_path / "second").mkdir()
    briefs(tmp_path / "second", 1)
    with LoopbackServer([]) as server:
        wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
        processes = [
            start(tmp_path, server, *cluster.flags, **wrong),
            start(tmp_path / "second", server, *cluster.flags),
        ]
        ends = [(process.communicate(timeout=120), process.returncode) for process in processes]
    line = (
        f"synopsis: no Ray cluster at '127.0.0.1:{cluster.port}': authentication token is missing or "
        "incorrect: start it, or correct --address and the token (RAY_AUTH_MODE)\n"
    )
    assert ends == [((b"", line.encode()), 2)] * 2


def test_a_folder_that_ray_cannot_use_is_reported_in_one_line(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    with LoopbackServer([]) as server:
        flags = ("--engine", "ray")
        done = terminal.process(*BATCH, *flags, server=server, RAY_TMPDIR=str(tmp_path / "briefs.csv"))
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
    assert "cannot start Ray here: " in done.err
    assert "RAY_TMPDIR" in done.err


@pytest.mark.slow
def test_a_node_with_other_examples_ends_the_batch(
    nodes: Nodes, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    briefs(tmp_path, 2)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    own = tmp_path / "data" / "synopsis-writer" / "examples" / "rote-rosen"
    own.mkdir(parents=True)
    (own / "one.md").write_bytes(PATH.read_bytes())
    with LoopbackServer([Reply(ANSWER)]) as server:
        done = run(terminal, server, *nodes.flags, "--quiet")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "examples differ from those where the batch was begun" in done.err


@pytest.mark.parametrize(
    ("kind", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_that_reaches_rays_processes_too_loses_nothing(
    tmp_path: Path, kind: signal.Signals, code: int
) -> None:
    rows = 40
    briefs(tmp_path, rows)
    with LoopbackServer([Reply(ANSWER)]) as server:
        flags = ("--engine", "ray", "--workers", "1", "--concurrency", "2")
        server.allow(10)
        process = start(tmp_path, server, *flags)
        wait_for(lambda: len(server.chats) >= 10, process)
        os.killpg(process.pid, kind)
        message = read_until(process, ENDING)
        server.allow()
        out, rest = process.communicate(timeout=120)
        asked = len(server.chats)
    saved = statuses(tmp_path).count("accepted")
    message += rest.decode()
    assert (process.returncode, saved) == (code, asked), message
    assert out.startswith(f"{rows} rows: {saved} accepted".encode())
    assert "workers 1" in message
    assert "Traceback" not in message
    assert not (Path(os.environ["HOME"]) / ".ray").exists()  # no token that later clusters would demand


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--engine", "ray", "--address", "127.0.0.1:9"), "no Ray cluster at '127.0.0.1:9': connection refused"),
        (("--engine", "ray", "--address", "ray://127.0.0.1:9"), "connection refused"),
        (("--engine", "ray", "--address", "nowhere"), "no Ray cluster at 'nowhere'"),
        (("--engine", "ray", "--model", "packaged"), "leave out --engine ray"),
    ],
)
def test_what_no_cluster_can_do_is_reported_in_one_line(
    terminal: Terminal, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    briefs(tmp_path, 1)
    with LoopbackServer([]) as server:
        done = run(terminal, server, *flags)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
    assert message in done.err


def test_a_server_that_is_not_a_cluster_is_recognised(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    with LoopbackServer([]) as server:
        address = "ray" + server.base_url.removeprefix("http").removesuffix("/v1")
        done = run(terminal, server, "--engine", "ray", "--address", address)
    assert (done.code, "what answers there is not a cluster" in done.err) == (2, True), done.err


def test_without_ray_the_line_names_the_extra(tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    code = "import sys; sys.modules['ray'] = None; from synopsis_writer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *BATCH, "--engine", "ray"],
        cwd=tmp_path,
        env={**os.environ, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install 'synopsis-writer[ray]'" in done.stderr


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RequestRefusedError("no", is_transient=True)))
    assert (str(error), error.is_transient) == ("no", True)


def order(concurrency: int, **more: int) -> Order:
    return Order(Path("briefs.csv"), Path("out"), concurrency, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ordered", "cpus", "count", "calls", "size"),
    [
        (order(8), 16, 1, None, 1),
        (order(8), 16, 2, None, 2),  # one a node
        (order(64), 16, 2, None, 8),  # one for eight rows
        (order(64), 4, 2, None, 4),  # no more than CPUs
        (order(1), 4, 2, None, 1),  # no more than rows
        (order(64, rpm=30), 16, 2, None, 3),  # no more than a tenth of the requests
        (order(64, rpm=3), 16, 2, None, 1),
        (order(64, workers=5), 16, 2, None, 5),
        (order(64), 16, 2, 3, 3),  # no more than calls that the budget suffices for
        (order(64, workers=5), 16, 2, 0, 1),
        (order(8), 0, 0, None, 1),  # nodes may still come
    ],
)
def test_a_cluster_has_as_many_workers_as_fit(
    ordered: Order, cpus: int, count: int, calls: int | None, size: int
) -> None:
    assert worker_count(ordered, cpus, count, calls) == size


def descendants(root: int) -> set[int]:
    """Return a process with all that it started, directly or not, in whatever session."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
            parents[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
    family = {root}
    while found := {child for child, parent in parents.items() if parent in family} - family:
        family |= found
    return family


def listening(root: int) -> set[str]:
    """Return the addresses, in hex as Linux has them, on which a process and what it started listen."""
    sockets = {}  # inode to address
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                sockets[fields[9]] = fields[1].partition(":")[0]
    addresses = set()
    for process in descendants(root):
        with contextlib.suppress(OSError):
            links = Path(f"/proc/{process}/fd").iterdir()
            names = [os.readlink(link) for link in links]  # noqa: PTH115 - they are no paths
            inodes = [name[8:-1] for name in names if name.startswith("socket:[")]
            addresses |= {sockets[inode] for inode in inodes if inode in sockets}
    return addresses


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux says who listens in a file")
def test_a_cluster_that_the_command_starts_listens_on_loopback_alone(tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    with LoopbackServer([Silence(60)]) as server:
        process = start(tmp_path, server, "--engine", "ray", OPENAI_API_KEY="sk-secret", RAY_ADDRESS="local")
        try:
            wait_for(lambda: len(server.chats) >= 1, process)
            addresses = listening(process.pid)
        finally:
            for started in descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile, by itself
                    os.kill(started, signal.SIGKILL)
            process.communicate()
    assert addresses
    assert addresses <= LOOPBACK
