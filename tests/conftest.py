"""What applies to every test: no network but loopback, no user's settings, no user's folders."""

import atexit
import gc
import itertools
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import hypothesis
import pytest

from tests.support.browser import ARGUMENTS
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, FILE, ORDER, Terminal

if TYPE_CHECKING:
    from tests.support.house import House

# A busy machine is not a failure.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

LOCAL = ("127.0.0.1", "::1", "localhost")
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


ROOT = Path(__file__).parent
LONGEST_NAME = 300  # characters of a text that a test is called by
# Files that take longest: they begin first, so that all workers end together. Neighbours run at the same time: those
# that wait stand beside those that compute, and those that load the packaged model apart.
LONG = """
    browser/test_page test_batch_ray test_answers test_page_browser test_golden test_embedded test_batch_faults
    test_hostile_formats test_house_learn test_german test_engine test_selection test_storm test_gate_corpus test_cli
    test_page_jobs test_cli_eval test_client test_provider_fetch test_keys interop/test_llama
""".split()


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores: many tests wait for servers, browsers and processes."""
    return (os.cpu_count() or 1) + 2


def pytest_configure() -> None:
    """Let Ctrl-C end what tests start, also where a script's background passes on that it is ignored."""
    atexit.register(gc.freeze)  # else Python would go through all objects twice more at its end
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if sys.platform != "win32":
    import fcntl

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        collector: pytest.Collector,
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Have the first worker compile a file for all: with its assertions it takes longer than all else here."""
        if not isinstance(collector, pytest.Module):
            return (yield)
        with collector.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; workers take the files in this order."""
    ranks = {ROOT / f"{name}.py": rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    gc.freeze()  # pytest goes through all objects five times at its end


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long text by its beginning: each worker tells the others the names of all tests."""
    return f"{val[:60]!a}..." if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]
    told = [value for report in reports for name, value in report.user_properties if name == "damage"]
    if len(told) > 1:
        from tests.corpus.damage.table import DAMAGES
        from tests.corpus.measure import Row, as_markdown

        counts = {name: (refused, applied) for name, refused, applied in told}
        rows = [Row(damage, *counts[damage.name], ()) for damage in DAMAGES if damage.name in counts]
        terminalreporter.section("damages refused, by half (A: thresholds set on it, B: held out)")
        terminalreporter.write("\n".join(as_markdown(rows)) + "\n")


class NetworkBlocked(RuntimeError):
    pass


def _allowed(sock: socket.socket, address: Any) -> None:
    if sock.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in LOCAL:
        raise NetworkBlocked(f"a test wanted to reach {address}")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: socket.socket, address: Any) -> None:
        _allowed(self, address)
        _connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _allowed(self, address)
        return _connect_ex(self, address)

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in {*LOCAL, None}:
            raise NetworkBlocked(f"a test wanted to look up {host}")
        return _getaddrinfo(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders; `mktemp` looks through all of a worker's thousands for the next."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, _homes: Iterator[Path], _languages: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "SYNOPSIS_", "HF_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")  # findings are in the locale's language
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    home = next(_homes)
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    cache = home / "xdg_cache_home" / "synopsis-writer"
    cache.mkdir(parents=True)
    (cache / "languages").symlink_to(_languages, target_is_directory=True)


@pytest.fixture(scope="session", autouse=True)
def _own_files_read_once() -> Iterator[None]:
    from tests.support.once import patch_readers

    with pytest.MonkeyPatch.context() as patch:
        patch_readers(patch.setattr)
        yield


@pytest.fixture(scope="session")
def _languages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands find the unpacked model of languages, and word lists: both take them a second.

    Of several workers the first unpacks them for all.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tmp_path_factory.mktemp("languages")
    from synopsis_writer.gate import gate, lexicon
    from synopsis_writer.house import built_in_house

    folder = tmp_path_factory.getbasetemp().parent / "languages"
    with filelock.FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexicon, "_folders", [folder])
        gate.Gate(built_in_house()).warm_up()
    return folder


@pytest.fixture(scope="session")
def packaged_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The packaged model's file: to put it together, 253 MB, takes a second."""
    from synopsis_writer.models.download import packaged_weights

    path = packaged_weights(tmp_path_factory.mktemp("packaged"))
    yield path
    path.unlink()  # pytest keeps the folders of the last three runs


class Warned:
    """The warnings that were logged and not taken yet."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def take(self) -> list[str]:
        records = [record for record in self._caplog.records if record.levelno >= logging.WARNING]
        self._caplog.clear()
        return [record.getMessage() for record in records]


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[Warned]:
    """Warnings of the package; at the end of a test each must have been taken."""
    warnings = Warned(caplog)
    yield warnings
    assert warnings.take() == []


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def written(terminal: Terminal, tmp_path: Path) -> Path:
    """A text that a model wrote, and that the log knows."""
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, server=server).code == 0
    return tmp_path / FILE


@pytest.fixture(scope="module")
def house_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def house(tmp_path: Path, house_cache: Path) -> "Iterator[House]":
    """A folder with briefs and a provider's batch; what is logged of it is in `messages`."""
    from tests.support.house import House, logged

    house = House(tmp_path, house_cache)
    with logged(house.messages):
        yield house


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, without a page."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()
