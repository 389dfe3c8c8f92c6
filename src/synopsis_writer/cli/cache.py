"""`synopsis cache`: how much is kept, and how to forget it."""

import contextlib
from typing import TYPE_CHECKING

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import give, give_json, say

if TYPE_CHECKING:
    from synopsis_writer.client.cache import ResponseCache
    from synopsis_writer.settings import Settings

app = typer.Typer(help="Kept answers: 'write --cache read' gives them again.", no_args_is_help=True)


@app.command("info")
def show_info(json: options.Json = False) -> None:
    """Say where answers are kept, how many there are, and what they may take."""
    from datetime import UTC, datetime

    from synopsis_writer.client.chain import CACHE_FILE
    from synopsis_writer.settings import load_settings

    settings = load_settings({})
    with _cache(settings) as cache:
        size = cache.size()
    oldest = datetime.fromtimestamp(size.oldest, UTC).replace(microsecond=0) if size.answers else None
    data = {
        "path": str(settings.cache / CACHE_FILE),
        "answers": size.answers,
        "bytes": size.bytes,
        "oldest": oldest and oldest.isoformat(),
        "cache_megabytes": settings.cache_megabytes,
        "cache_days": settings.cache_days,
    }
    if json:
        give_json(data)
        return
    give(f"path:     {data['path']}")
    give(f"answers:  {size.answers} ({size.bytes / 1e6:.1f} of at most {settings.cache_megabytes:g} MB)")
    give(f"oldest:   {data['oldest'] or 'none'} (kept for {settings.cache_days:g} days)")


@app.command("clear")
def clear_cache() -> None:
    """Forget all kept answers."""
    from synopsis_writer.settings import load_settings

    with _cache(load_settings({})) as cache:
        count = cache.size().answers
        cache.clear()
    say(f"removed {count} answer{'s' if count != 1 else ''}")


def _cache(settings: "Settings") -> "contextlib.closing[ResponseCache]":
    from synopsis_writer.client.chain import open_cache

    return contextlib.closing(open_cache(settings))
