"""The commands write, outline and prompt."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    complain,
    give,
    give_json,
    note_path,
    opened_log,
    printable,
    say,
    say_nothing,
)
from synopsis_writer.errors import BriefError, FileError, GateRefusedError
from synopsis_writer.kinds import FileFormat
from synopsis_writer.models.base import answer_data, bill
from synopsis_writer.storage.files import save

if TYPE_CHECKING:
    from synopsis_writer.attempt import Attempt
    from synopsis_writer.brief import Brief
    from synopsis_writer.synopsis import Outline, Synopsis
    from synopsis_writer.writer import Session


def write(
    show: options.Show = None,
    theme: options.Theme = None,
    form: options.FormOption = None,
    character: options.Characters = None,
    beat: options.Beats = None,
    words: options.Words = None,
    air_date: options.AirDate = None,
    notes: options.Notes = None,
    outline: options.OutlineFile = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    examples: options.Examples = None,
    pin: options.Pin = None,
    prompts: options.Prompts = None,
    profile: options.Profile = None,
    disable: options.Disable = None,
    semantic: options.Semantic = None,
    out: options.Out = None,
    file_format: options.Format = FileFormat.MARKDOWN,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of the same title.")] = False,
    keep_rejected: Annotated[
        Path | None, typer.Option("--keep-rejected", help="Save a refused text into this folder.")
    ] = None,
    attempts: options.Attempts = None,
    best_of: options.BestOf = 1,
    max_retries: options.MaxRetries = None,
    budget: options.Budget = None,
    max_tokens_total: options.MaxTokensTotal = None,
    cache: options.Cache = None,
    no_log: options.NoLog = False,
    replay: Annotated[
        str | None,
        typer.Option("--replay", metavar="RUN", help="Go through a logged run again, asking no model."),
    ] = None,
    seed: options.Seed = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write, check and save one synopsis; the text goes to stdout."""
    import asyncio

    from synopsis_writer.cli.console import growing
    from synopsis_writer.settings import load_settings
    from synopsis_writer.writer import Order, replay_once, write_once

    settings = load_settings(
        {
            "model": model,
            "base_url": base_url,
            "insecure": insecure,
            "examples": examples,
            "pinned": pin,
            "prompts": prompts,
            "profile": profile,
            "disable": disable,
            "semantic": semantic,
            "out": out,
            "attempts": attempts,
            "max_retries": max_retries,
            "budget": budget,
            "max_tokens_total": max_tokens_total,
            "responses": cache,
        }
    )
    # Several drafts at once would grow into each other.
    picture = growing(quiet=quiet) if best_of == 1 else None
    status = say_nothing if quiet else picture.say if picture else say
    order = {
        "show": show,
        "theme": theme,
        "form": form,
        "characters": character,
        "beats": beat,
        "words": words,
        "air_date": air_date,
        "notes": notes,
    }
    with opened_log(settings, kept=not no_log) as log:
        if replay is not None:
            refuse_order(outline, order)
            session = asyncio.run(replay_once(settings, replay, log, say=status))
        else:
            brief, planned = read_order(outline, **order)
            ordered = Order(brief, planned, best_of, seed)
            with picture or contextlib.nullcontext():
                grown = picture.show if picture else None
                session = asyncio.run(write_once(settings, os.environ, ordered, log, say=status, grown=grown))
        folder = keep_rejected if session.result.accepted is None else settings.out
        code, path = deliver(session, folder, file_format, force=force, as_json=json, status=status)
        if path is not None and replay is None:
            note_path(log, session.origin.run, path)
    return code


def outline(
    show: options.Show = None,
    theme: options.Theme = None,
    form: options.FormOption = None,
    character: options.Characters = None,
    beat: options.Beats = None,
    words: options.Words = None,
    air_date: options.AirDate = None,
    notes: options.Notes = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    examples: options.Examples = None,
    pin: options.Pin = None,
    prompts: options.Prompts = None,
    attempts: options.Attempts = None,
    max_retries: options.MaxRetries = None,
    budget: options.Budget = None,
    max_tokens_total: options.MaxTokensTotal = None,
    cache: options.Cache = None,
    no_log: options.NoLog = False,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
) -> None:
    """Write only the plan, as YAML on stdout: edit it, then give it to 'synopsis write --outline FILE'."""
    import asyncio

    from synopsis_writer.drafting import format_outline
    from synopsis_writer.settings import load_settings
    from synopsis_writer.writer import Order, outline_once

    settings = load_settings(
        {
            "model": model,
            "base_url": base_url,
            "insecure": insecure,
            "examples": examples,
            "pinned": pin,
            "prompts": prompts,
            "attempts": attempts,
            "max_retries": max_retries,
            "budget": budget,
            "max_tokens_total": max_tokens_total,
            "responses": cache,
        }
    )
    brief, _ = read_order(
        None,
        show=show,
        theme=theme,
        form=form,
        characters=character,
        beats=beat,
        words=words,
        air_date=air_date,
        notes=notes,
    )
    status = say_nothing if quiet else say
    with opened_log(settings, kept=not no_log) as log:
        order = Order(brief, seed=seed)
        ordered, planned = asyncio.run(outline_once(settings, os.environ, order, log, say=status))
    give(format_outline(ordered, planned))


def prompt(
    show: options.Show = None,
    theme: options.Theme = None,
    form: options.FormOption = None,
    character: options.Characters = None,
    beat: options.Beats = None,
    words: options.Words = None,
    air_date: options.AirDate = None,
    notes: options.Notes = None,
    outline: options.OutlineFile = None,
    examples: options.Examples = None,
    pin: options.Pin = None,
    prompts: options.Prompts = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print what would be sent, and about how many tokens it takes; asks no model."""
    from synopsis_writer.settings import load_settings
    from synopsis_writer.writer import load_desk

    settings = load_settings({"examples": examples, "pinned": pin, "prompts": prompts})
    brief, planned = read_order(
        outline,
        show=show,
        theme=theme,
        form=form,
        characters=character,
        beats=beat,
        words=words,
        air_date=air_date,
        notes=notes,
    )
    status = say_nothing if quiet else say
    desk = load_desk(settings)
    known = desk.find_show(brief.show, status)
    brief = brief.model_copy(update={"show": known.name})
    rendered, shown = desk.synopsis_prompt(brief, known, planned), desk.chosen(brief)
    status(f"about {rendered.tokens} tokens, with {len(shown) or 'no'} example{'s' * (len(shown) != 1)}")
    for chosen in shown:
        status(f"  {chosen.example.id}: {chosen.tokens} tokens; {chosen.why}")
    if json:
        give_json(
            {
                "messages": [
                    {"role": message.role, "content": message.content} for message in rendered.messages
                ],
                "tokens": rendered.tokens,
                "examples": [
                    {"id": chosen.example.id, "tokens": chosen.tokens, "why": chosen.why} for chosen in shown
                ],
                "prompt": {"name": rendered.name, "version": rendered.version, "hash": rendered.hash},
            }
        )
    else:
        give("\n\n".join(f"--- {message.role} ---\n{message.content}" for message in rendered.messages))


def read_order(outline: Path | None, **fields: Any) -> "tuple[Brief, Outline | None]":
    """Return the brief from flags and, where one is named, an outline file; flags go before the file.

    Raises:
        BriefError: show or theme is missing, or a field breaks a rule.
        InputError: the outline file cannot be used.
    """
    from synopsis_writer.brief import make_brief

    given = {name: value for name, value in fields.items() if value not in (None, [])}
    planned = None
    if outline is not None:
        from synopsis_writer.drafting import load_outline

        ordered, planned = load_outline(outline)
        given = {**ordered.as_data(), **given}
    for name in ("show", "theme"):
        if name not in given:
            raise BriefError(f"no {name}: name it with --{name}")
    return make_brief(**given), planned


def refuse_order(outline: Path | None, fields: dict[str, Any]) -> None:
    """Refuse flags of a brief beside --replay: they would have no effect.

    Raises:
        BriefError: one is given.
    """
    given = [name for name, value in {**fields, "outline": outline}.items() if value not in (None, [])]
    if given:
        raise BriefError(f"--replay takes its brief from the log: leave out {', '.join(given)}")


DONE = 0

UNSTRUCTURED = "Antwort ohne Struktur"  # the title of an answer that is no synopsis


def deliver(
    session: "Session",
    folder: Path | None,
    file_format: FileFormat,
    *,
    force: bool,
    as_json: bool,
    status: Callable[[str], None],
) -> tuple[int, Path | None]:
    """Save and print what came of a brief; return the exit code, and where it was saved.

    An accepted synopsis goes into `<folder>/<show>/` and to stdout. A refused one goes into `folder`
    when there is one, and nowhere else. A text that cannot be saved is printed all the same.
    """
    from synopsis_writer.save import render

    result = session.result
    accepted = result.accepted
    code, path = DONE, None
    if folder is not None and result.best is not None:
        try:
            path = _keep(
                session, result.best, folder / result.show.slug if accepted else folder, file_format, force
            )
        except FileError as error:
            complain(str(error))
            code = error.exit_code
            if accepted is None and not as_json:
                synopsis = result.best.synopsis
                give(
                    render({}, synopsis, FileFormat.TEXT) if synopsis else printable(result.best.answer.text)
                )
    if as_json:
        give_json(_data(session, path))
    elif accepted is not None:
        give(render({}, accepted, FileFormat.TEXT))
    _explain(session, path, status)
    if accepted is None:
        code = result.error.exit_code if result.error else GateRefusedError.exit_code
    return code, path


def _keep(session: "Session", attempt: "Attempt", folder: Path, file_format: FileFormat, force: bool) -> Path:
    """Save an attempt; an answer without structure as it came."""
    from synopsis_writer.save import record, render

    if attempt.synopsis is None:
        return save(attempt.answer.text + "\n", folder, UNSTRUCTURED, FileFormat.TEXT)
    fields = record(session.result, attempt, attempt.synopsis, session.origin)
    content = render(fields, attempt.synopsis, file_format)
    return save(content, folder, attempt.synopsis.title, file_format, force=force)


def _explain(session: "Session", path: Path | None, status: Callable[[str], None]) -> None:
    from synopsis_writer.save import demo_label

    result = session.result
    best = result.best
    status(bill([attempt.answer for attempt in result.attempts]))
    if best is not None and best.synopsis is not None and (label := demo_label(best, best.synopsis)):
        say(label)  # even with --quiet: nobody must take a demo draft for more
    if result.accepted is None:
        if result.error is not None:
            complain(str(result.error))
        reasons = " ".join(best.problems) if best else "no answer"
        kept = f"kept as {path}" if path else "nothing saved; --keep-rejected DIR keeps the text"
        complain(f"refused by the gate: {reasons} ({kept})")
    elif path is not None:
        status(f"saved as {path}")


def _data(session: "Session", path: Path | None) -> dict[str, Any]:
    from synopsis_writer.save import provenance, record

    result, best, origin = session.result, session.result.best, session.origin
    synopsis: Synopsis | None = best.synopsis if best else None
    fields: dict[str, Any] = {"brief": result.brief.as_data()}
    if best is not None:
        fields |= record(result, best, synopsis, origin) if synopsis else provenance(result, best, origin)
    return {
        "passed": result.accepted is not None,
        "path": str(path) if path else None,
        "error": str(result.error) if result.error else None,
        **fields,
        "text": synopsis.text if synopsis else None,
        "history": [_attempt(attempt) for attempt in result.attempts],
    }


def _attempt(attempt: "Attempt") -> dict[str, Any]:
    return {
        "number": attempt.number,
        "passed": attempt.passed,
        "finish": attempt.answer.finish,
        "problems": list(attempt.problems),
        "answer": attempt.answer.text,
        "findings": [finding.as_data() for finding in attempt.findings],
        **answer_data(attempt.answer),
    }
