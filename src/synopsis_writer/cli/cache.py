"""`synopsis cache`: how much is kept, and how to forget it."""

import contextlib

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import OVERWRITTEN_LATER, give, give_json, say
from synopsis_writer.errors import FileError

app = typer.Typer(help="Kept answers: 'write --cache read' gives them again.", no_args_is_help=True)


@app.command("info")
def show_info(json: options.Json = False) -> None:
    """Say where answers are kept, how many there are, and what they may take."""
    from datetime import UTC, datetime

    from synopsis_writer.client.cache import ResponseCache
    from synopsis_writer.client.chain import CACHE_FILE
    from synopsis_writer.database import read_database
    from synopsis_writer.settings import load_settings

    settings = load_settings({})
    with contextlib.closing(ResponseCache(settings.cache / CACHE_FILE, open_file=read_database)) as cache:
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
    """Forget all kept answers; a file that cannot be used is deleted."""
    from synopsis_writer.client.chain import CACHE_FILE, open_cache
    from synopsis_writer.database import is_held, remove_database
    from synopsis_writer.settings import load_settings

    settings = load_settings({})
    try:
        with contextlib.closing(open_cache(settings)) as cache:
            count = cache.size().answers
            is_overwritten = cache.clear()
    except FileError as error:
        if is_held(error.__cause__):
            raise
        remove_database(settings.cache / CACHE_FILE)
        say(f"{settings.cache / CACHE_FILE} could not be used, and was deleted")
        return
    say(f"removed {count} answer{'s' if count != 1 else ''}")
    if not is_overwritten:
        say(f"another program reads the cache: {OVERWRITTEN_LATER}")
