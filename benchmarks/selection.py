"""Measure the selection of examples, and what a second prompt rereads on the embedded engine; one table.

    python -m benchmarks.selection

The pool is 100,000 examples: the packaged ones, each with a theme and a logline drawn from the words of all
and under one of eight shows. The second part needs the extra `local`: for eight shows and forms two prompts
are read one after the other by the packaged model, which is given its family's chat template; what the
engine did not find in its cache is counted. The two themes are such that they choose different examples
(not every show and form has such themes: of week and special the pool has five examples, all shown).
"""

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.table import Row, print_table
from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.models.base import Limits
from synopsis_writer.models.download import is_packaged_available, packaged_weights
from synopsis_writer.models.embedded import EmbeddedClient, Engine
from synopsis_writer.prompts.selection import index_examples, select
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.writer import Writer

T = TypeVar("T")

EXAMPLES = 100_000
QUERIES = 300
# Gemma 3's turns, as the instruct models of the family mark them; the packaged one is the base model.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else 'user' }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SHOWS = (
    ("In aller Freundschaft", "episode"),
    ("In aller Freundschaft", "portrait"),
    ("Rote Rosen", "portrait"),
    ("Alles was zählt", "portrait"),
    ("Sturm der Liebe", "teaser"),
    ("Gute Zeiten, schlechte Zeiten", "episode"),
    ("Unter uns", "episode"),
    ("Der Bergdoktor", "portrait"),
)


def small_rows() -> list[Row]:
    """Measure what selecting adds to a command with the packaged pool, imports included."""
    code = (
        "import time; from synopsis_writer.writer import Writer;"
        "from synopsis_writer.brief import make_brief;"
        "from synopsis_writer.settings import load_settings;"
        "writer = Writer(load_settings({})); writer.workspace;"
        "brief = make_brief(show='Rote Rosen', theme='Ein Gärtner rettet eine Linde');"
        "begun = time.perf_counter(); writer.select(brief); print(time.perf_counter() - begun)"
    )
    command = [sys.executable, "-c", code]
    seconds = [float(subprocess.check_output(command, encoding="utf-8")) for _ in range(10)][1:]
    return [
        Row(
            "selecting from the packaged pool, import and index included, median",
            f"{milliseconds(statistics.median(seconds))} ({milliseconds(min(seconds))} at best)",
            "≤ 30 ms",
        )
    ]


def large_rows() -> list[Row]:
    """Measure building, saving, opening and querying an index of 100,000 examples."""
    pool = made_pool(load_pool([folder("examples")]).examples)
    with tempfile.TemporaryDirectory() as cache:
        built, _ = timed(index_examples, pool, Path(cache))
        size = sum(file.stat().st_size for file in Path(cache).glob("*/*"))
        opened, index = timed(index_examples, pool, Path(cache))
        rng = random.Random(2)
        briefs = [rng.choice(pool).brief for _ in range(QUERIES)]
        own = [timed(select, index, brief)[0] for brief in briefs]
    return [
        Row(f"index {EXAMPLES:,} examples and save it, costs and digest included", f"{built:.1f} s"),
        Row("its size on disk", f"{size / 1e6:.0f} MB"),
        Row("open it again, the digest of all examples included", f"{opened:.1f} s"),
        Row(f"select for a brief, median of {QUERIES}", milliseconds(statistics.median(own)), "≤ 10 ms"),
        Row("the slowest of them", milliseconds(max(own)), "≤ 10 ms"),
    ]


def made_pool(examples: tuple[Example, ...]) -> list[Example]:
    """Return 100,000 examples made from the words of a few, each as often as they use it."""
    vocabulary = [word for example in examples for word in example.synopsis.text.split()]
    rng = random.Random(1)
    pool = []
    for number in range(EXAMPLES):
        base = rng.choice(examples)
        theme, logline = (" ".join(rng.choices(vocabulary, k=words)) for words in (12, 22))
        brief = base.brief.model_copy(update={"theme": theme, "show": f"Serie {rng.randrange(8)}"})
        synopsis = base.synopsis.model_copy(update={"logline": logline})
        pool.append(Example(f"serie/{number}", brief, synopsis, base.path))
    return pool


def embedded_rows() -> list[Row]:
    """Measure what the embedded engine rereads of a second prompt for the same show and form."""
    if not is_packaged_available():
        return [Row("re-read of a second prompt", "not measured: the extra `local` is missing")]
    settings = load_settings({})
    engine = Engine(packaged_weights(settings.cache), context=16384, chat_template=TEMPLATE)
    try:
        return asyncio.run(_embedded_rows(Writer(settings), EmbeddedClient(engine)))
    finally:
        engine.close()


async def _embedded_rows(writer: Writer, client: EmbeddedClient) -> list[Row]:
    rows, shares = [], []
    for name, form in SHOWS:
        (first, _, before), (second, cached, after) = [
            await read(writer, client, brief) for brief in apart(writer, name, form)
        ]
        shares.append((second - cached) / first)
        rows.append(
            Row(
                f"{name}, {form}: {first} tokens ({before:.0f} s), then {second} ({after:.0f} s)",
                f"{second - cached} re-read, {shares[-1]:.1%}",
                "≤ 20 %",
            )
        )
    most = f"{statistics.median(shares):.1%}, {max(shares):.1%}"
    return [*rows, Row("of all these, the median and the most", most)]


def apart(writer: Writer, name: str, form: str) -> tuple[Brief, Brief]:
    """Return two briefs for one show and form whose themes choose different examples."""
    show = writer.workspace.find_show(name)
    briefs = {
        writer.select(brief)[-1].example.id: brief
        for example in writer.workspace.pool.examples
        for brief in [make_brief(show=show.name, form=form, theme=example.brief.theme)]
    }
    first, second, *_ = briefs.values()
    return first, second


async def read(writer: Writer, client: EmbeddedClient, brief: Brief) -> tuple[int, int, float]:
    """Return a prompt's tokens, how many the engine had in its cache, and the seconds it took."""
    prompt = writer.prompt(brief)
    answer = await client.complete(prompt.messages, wire_schema(Synopsis), Limits(max_tokens=8))
    return answer.usage.prompt_tokens, answer.usage.cached_tokens, answer.seconds


def timed(work: Callable[..., T], *arguments: Any) -> tuple[float, T]:
    """Return the seconds some work takes, and its result."""
    begun = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - begun, result


def milliseconds(seconds: float) -> str:
    """Return a time as it is shown in the table."""
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    print_table((small_rows, large_rows, embedded_rows))
