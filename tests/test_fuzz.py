"""Fuzz targets: whatever is read, it ends in a value or in one of our errors, in bounded time and memory.

`pytest tests/test_fuzz.py` tries a few examples of each; `pytest -m fuzz tests/test_fuzz.py` goes on for two
minutes a target, each in a process of its own with a bound on its memory.
"""

import contextlib
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synopsis_writer.answers import find_objects, read_json, without_thoughts
from synopsis_writer.batch.briefs import read_briefs
from synopsis_writer.characters import clean_name, format_json, printable
from synopsis_writer.document import parse_document, read_toml
from synopsis_writer.drafting import load_outline
from synopsis_writer.errors import InputError, SynopsisError, TemplateError
from synopsis_writer.evals.suite import load_suite
from synopsis_writer.examples import load_example
from synopsis_writer.formats.reading import read_sources
from synopsis_writer.formats.sheets import SHEETS, Slot, sheet_of, xmltv_sheets
from synopsis_writer.house import load_house
from synopsis_writer.log import RunLog
from synopsis_writer.models.base import Answer
from synopsis_writer.models.limits import ResponseCache
from synopsis_writer.models.pricing import read_prices
from synopsis_writer.models.responses import StreamedAnswer, read_answer, read_models
from synopsis_writer.models.retry import InvalidResponseError
from synopsis_writer.prompts.templates import load_template
from synopsis_writer.provider.api import RemoteBatch, _File, _Page, _parse, read_result
from synopsis_writer.show import load_show
from synopsis_writer.synopsis import Outline, Synopsis, parse
from tests.support.terminal import ANSWER, PATH
from tests.test_gate_fuzz import FORMS, examine

MOST_BYTES = 2_000_000_000  # of address space, the word lists and shared libraries among them
MOST_SECONDS = 10.0
LONG = 120.0  # seconds a target, with -m fuzz

SEEDS = [
    b"---\na: &a [x, x]\nb: [*a, *a]\n---\nText",
    b"---\n<<: {a: 1}\n---\nText",
    b'---\na: !!int ""\nb: !!timestamp foo\n---\nText',
    b"---\na: " + b"[" * 30_000,
    b"---\na: " + b"1" * 5_000 + b"\n---\nText",
    b"---\na: 2025-02-30\n---\n",
    b"---\na: 20:15\nb: 1:2:3:4\n---\n",
    b"a = " + b"[" * 3_000,
    b"a." * 5_000 + b"a = 1",
    b"a = 1e999\nb = " + b"9" * 5_000,
    b'{"model": "\\ud83d", "choices": [{"message": {"content": "\\ud83d"}, "finish_reason": "\\ud83d"}]}',
    b'{"usage": {"prompt_tokens": ' + b"9" * 5_000 + b'}, "choices": [{"message": {"content": "{}"}}]}',
    b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\ndata: [DONE]\n\n',
    b"[" * 30_000 + b"\xff",
    b'data: {"choices": ' + b"[" * 30_000 + b"\xff\n\n",
    b"\x1b]52;c;x\x07\xc2\x9b31m\xe2\x80\xae\xed\xa0\xbd",
    b"id,show,theme\na,b,c\n",
    b'{"show": "a", "theme": "b", "words": ' + b"9" * 5_000 + b"}\n",
    b"- show: a\n  theme: b\n  words: 100-200\n",
    b"{% for a in brief %}{{ brief }}{% endfor %}",
    b"{{ 9**9**9 }}{% macro m() %}{{ m() }}{% endmacro %}",
    b"name: x\nforms:\n  a:\n    words: 20-40\n    aim: {words: 25-30}\n    checks: {cast: off}\n",
    b"name: x\nversion: 1\ncases: [a]\nmodels: [{name: m}]\nthresholds: {pass_rate: 0.5}\n",
    b'title,text,form\r\nA,"Er geht.\nSie kommt.",teaser\r\n',
    b"<meta charset=punycode><h1>A</h1><p>Er &#27; geht.<!-- x --><script>y</script>",
    b"<w:p><w:r><w:t>Er geht.</w:t></w:r><w:ins><w:r/></w:ins><w:sdt><w:p/></w:sdt></w:p>",
    b'{"title": "A", "text": "Er \\ud83d geht.", "brief": {"show": 5}, "characters": [{"name": []}]}',
    ANSWER.encode(),
    PATH.read_bytes(),
]
PIECES = [
    *(b"---\n", b"[", b"{", b"]", b"}", b"&a ", b"*a", b"!!", b": ", b"- ", b"? ", b"<<", b'"', b"\\ud83d"),
    *(b"<p>", b"</p>", b"<!--", b"<w:p>", b"</w:p>", b"<w:del>", b"sep=", b"charset=idna ", b"&#27;"),
    *(b"data: ", b"\r", b"\n\n", b"\0", b"\x1b]52;", b"\xff", b"9" * 400, b"{{", b"}}", b"{%", b"%}", b"'"),
]


def mutated(seed: int) -> bytes:
    """Return a seed of the corpus, with bytes flipped, and pieces put in, repeated or cut out."""
    luck = random.Random(seed)
    data = bytearray(luck.choice(SEEDS))
    for _ in range(luck.randint(0, 8)):
        at = luck.randint(0, len(data))
        match luck.randint(0, 3):
            case 0:
                data[at : at + 1] = bytes([luck.randrange(256)])
            case 1:
                data[at:at] = luck.choice(PIECES) * luck.choice([1, 1, 2, 30, 3_000])
            case 2:
                del data[at : at + luck.choice([1, 4, 50])]
            case _:
                data[at:at] = data[luck.randint(0, len(data)) :][: luck.choice([4, 50])]
    return bytes(data)


INPUTS = st.one_of(
    st.integers(0, 2**62).map(mutated),
    st.binary(max_size=300),
    st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
)


def placed(data: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


FOLDER = Path(tempfile.mkdtemp(prefix="synopsis-fuzz-"))


def front_matter(data: bytes) -> None:
    parse_document(data, Path("x.md"))


def config(data: bytes) -> None:
    for kind in (float, Decimal):
        read_toml(placed(data, "x.toml"), kind)


def briefs(data: bytes) -> None:
    for kind in ("yaml", "csv", "jsonl"):
        try:
            list(read_briefs(placed(data, f"x.{kind}")))
        except InputError:
            continue


def houses(data: bytes) -> None:
    """Houses, and the other files of YAML: shows, suites, outlines, arcs, prices."""
    path = placed(data, "x.yaml")
    readers: list[Callable[[], object]] = [
        lambda: load_house(path),
        lambda: load_show(path),
        lambda: load_suite(path, {}),
        lambda: load_outline(path),
        lambda: load_example(path),
        lambda: read_prices(placed(data, "prices.toml")),
    ]
    for read in readers:
        try:
            read()
        except InputError:
            continue


def texts(data: bytes) -> None:
    """Files of editors, and what goes out of them in every format."""
    word = io.BytesIO(WORD)
    with zipfile.ZipFile(word, "a") as archive:
        archive.writestr("word/document.xml", HEAD + data + b"</w:body></w:document>")
    for suffix in ("md", "txt", "json", "csv", "html", "docx"):
        try:
            path = placed(word.getvalue() if suffix == "docx" else data, f"x.{suffix}")
            sheets = [sheet_of(source.document) for source in read_sources(path)]
        except InputError:
            continue
        for kind in SHEETS if len(sheets) == 1 else ("csv", "json"):
            assert SHEETS[kind](sheets)
        xmltv_sheets(sheets[:1], Slot("a", datetime(2026, 12, 24, tzinfo=UTC)))
    with contextlib.suppress(InputError):
        xmltv_sheets([SHEET], placed(data, "guide.xml"))


HEAD = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
SHEET = sheet_of(parse_document(PATH.read_bytes(), PATH))


def _empty_word_file() -> bytes:
    whole, rest = io.BytesIO(SHEETS["docx"]([SHEET])), io.BytesIO()
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(rest, "w") as copy:
        for item in archive.namelist():
            if item != "word/document.xml":
                copy.writestr(item, archive.read(item))
    return rest.getvalue()


WORD = _empty_word_file()


def results(data: bytes) -> None:
    """Lines of a provider's file of results, and its answers about batches."""
    for line in data.split(b"\n"):
        read_result(line)
        read_result(b'{"custom_id": "0123456789abcdef-1-1", "response": ' + line + b"}")
    for shape in (RemoteBatch, _Page, _File):
        try:
            _parse(shape, data)
        except InvalidResponseError:
            continue


def template(data: bytes) -> None:
    path = placed(b"---\nname: synopsis\nversion: 1\n---\n{{ brief }}" + data, "synopsis.md")
    load_template(path, frozenset({"brief"})).render(brief="Ein Hund. " * 200)


def answer(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
    for shape in (Synopsis, Outline):
        parse(text, shape)
    without_thoughts(text, is_cut=len(data) % 2 == 0)
    find_objects(text)


def response(data: bytes) -> None:
    readers: list[Callable[[], object]] = [
        lambda: read_json(data),
        lambda: read_models(data, ""),
        lambda: read_answer(data, "", 1.0, "m"),
    ]
    for read in readers:
        try:
            read()
        except (InvalidResponseError, ValueError):
            continue


def stream(data: bytes) -> None:
    streamed = StreamedAnswer()
    for start in range(0, len(data), 997):
        streamed.feed(data[start : start + 997])
    given = streamed.answer("text/event-stream", 1.0, "m")
    assert given.text.encode("utf-8") is not None


def printer(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert all(char.isprintable() or char in AS_IS for char in printable(text))
    assert clean_name(text).isprintable() or "\u00a0" in clean_name(text)
    shown = format_json({"a": text})
    assert json.loads(shown) == {"a": text}
    assert printable(shown) == shown


def gate(data: bytes) -> None:
    """Texts of every form, with and without a brief."""
    raw = data.decode("utf-8", "surrogatepass" if data.isascii() else "replace")
    examine(raw, FORMS[len(data) % len(FORMS)], with_brief=len(data) % 3 > 0)


def _whole_databases() -> dict[str, bytes]:
    cache = ResponseCache(FOLDER / "cache")
    cache.put("key", Answer("Text"))
    cache.close()
    RunLog(FOLDER / "log").close()
    return {name: (FOLDER / name).read_bytes() for name in ("cache", "log")}


SOUND: dict[str, bytes] = {}


def database(data: bytes) -> None:
    """Flip bytes of sound databases, at places that `data` draws."""
    SOUND.update(SOUND or _whole_databases())
    luck = random.Random(data)
    for name, sound in SOUND.items():
        broken = bytearray(sound)
        for _ in range(luck.randint(1, 4)):
            broken[luck.choice([luck.randrange(len(broken)), luck.randrange(1_500)])] ^= luck.randrange(1, 256)
        for end in ("-wal", "-shm", "-journal"):
            (FOLDER / f"{name}{end}").unlink(missing_ok=True)
        path = placed(bytes(broken), name)
        try:
            if name == "cache":
                cache = ResponseCache(path)
                cache.get("key")
                cache.put("other", Answer("Text"))
                cache.size()
                cache.clear()
                cache.close()
            else:
                log = RunLog(path)
                log.ids()
                log.runs()
                log.remove(["x"])
                log.close()
        except InputError:
            continue


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(front_matter, config, briefs, houses, texts, template, answer, response, stream, results),
        *(printer, database, gate),
    )
}
AS_IS = "\n\t\u00a0\u00ad\u2009\u200c\u200d\u202f"  # blanks, hyphens and joiners, which steer no terminal
EXPECTED = (SynopsisError, InvalidResponseError, TemplateError)


def attempt(name: str, data: bytes) -> None:
    """Give `data` to a target: it must end in time, with a value or an error of ours."""
    start = time.process_time()
    try:
        TARGETS[name](data)
    except EXPECTED:
        pass
    except ValueError:
        if name != "config":  # `read_toml` leaves the error to its callers
            raise
    assert time.process_time() - start < MOST_SECONDS


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_no_seed_breaks_a_target(name: str, seed: int) -> None:
    attempt(name, SEEDS[seed])


@pytest.mark.parametrize("name", TARGETS)
@given(data=INPUTS)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_no_input_breaks_a_target(name: str, data: bytes) -> None:
    attempt(name, data)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_target_in_two_minutes(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_fuzz", name, str(LONG)],
        capture_output=True,
        text=True,
        timeout=LONG * 2,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-4_000:]


def fuzz(name: str, seconds: float) -> int:
    """Try a target for so many seconds; return how many inputs it took."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    end, seed = time.monotonic() + seconds, random.SystemRandom().getrandbits(48)
    count = 0
    while time.monotonic() < end:
        data = mutated(seed + count)
        try:
            attempt(name, data)
        except BaseException:
            sys.stderr.write(f"{name}: {data[:2_000]!r}\n")
            raise
        count += 1
    return count


if __name__ == "__main__":
    tried = fuzz(sys.argv[1], float(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
    sys.stdout.write(f"{sys.argv[1]}: {tried} inputs, {peak:.0f} MB at most\n")
