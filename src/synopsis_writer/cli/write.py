"""The commands write, outline and prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    STDERR,
    LiveText,
    open_log,
    print_error,
    print_json,
    print_result,
    printable,
    status,
    warn,
)
from synopsis_writer.errors import BriefError, FileError, GateRefusedError
from synopsis_writer.models.base import bill

if TYPE_CHECKING:
    from synopsis_writer.brief import Brief
    from synopsis_writer.result import Result
    from synopsis_writer.synopsis import Outline, Synopsis


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
    file_format: options.Format = "md",
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
    _quiet: options.Quiet = False,
) -> int:
    """Write, check and save one synopsis; the text goes to stdout."""
    from synopsis_writer.settings import load_settings
    from synopsis_writer.writer import Writer

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
    console = STDERR.screen() if best_of == 1 else None
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
    with open_log(settings, in_file=not no_log) as log, Writer(settings, log=log) as writer:
        if replay is not None:
            refuse_order(outline, order)
            result = writer.run(writer.replay(replay))
        else:
            brief, planned = read_order(outline, **order)
            on_text = LiveText(console).show if console else None
            result = writer.write_sync(brief, outline=planned, best_of=best_of, seed=seed, on_text=on_text)
            STDERR.clear()
        folder = keep_rejected if result.accepted is None else settings.out
        code, path = deliver(result, folder, file_format, force=force, as_json=json)
        if path is not None and replay is None:
            writer.saved(result, path)
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
    _quiet: options.Quiet = False,
) -> None:
    """Write only the plan, as YAML on stdout: edit it, then give it to 'synopsis write --outline FILE'."""
    from synopsis_writer.drafting import format_outline
    from synopsis_writer.settings import load_settings
    from synopsis_writer.writer import Writer

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
    with open_log(settings, in_file=not no_log) as log, Writer(settings, log=log) as writer:
        planned = writer.run(writer.outline(brief, seed=seed))
        brief, _ = writer.resolve(brief)
    print_result(format_outline(brief, planned))


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
    _quiet: options.Quiet = False,
) -> None:
    """Print what would be sent, and about how many tokens it takes; asks no model."""
    from synopsis_writer.settings import load_settings
    from synopsis_writer.writer import Writer

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
    writer = Writer(settings)
    rendered, shown = writer.prompt(brief, outline=planned), writer.select(brief)
    status(f"about {rendered.tokens} tokens, with {len(shown) or 'no'} example{'s' * (len(shown) != 1)}")
    for chosen in shown:
        status(f"  {chosen.example.id}: {chosen.tokens} tokens; {chosen.why}")
    if json:
        print_json(
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
        print_result(
            "\n\n".join(f"--- {message.role} ---\n{message.content}" for message in rendered.messages)
        )


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


def deliver(
    result: "Result",
    folder: Path | None,
    file_format: options.FileFormat,
    *,
    force: bool,
    as_json: bool,
) -> tuple[int, Path | None]:
    """Save and print what came of a brief; return the exit code, and where it was saved.

    An accepted synopsis goes into `<folder>/<show>/` and to stdout. A refused one goes into `folder`
    when there is one, and nowhere else. A text that cannot be saved is printed all the same.
    """
    accepted = result.accepted
    code, path = DONE, None
    if folder is not None:
        save = result.save if accepted else result.save_refused
        try:
            path = save(folder, file_format, force=force)
        except FileError as error:
            print_error(str(error))
            code = error.exit_code
            if accepted is None and not as_json:
                print_result(_plain(result.synopsis) if result.synopsis else printable(result.render()))
    if as_json:
        print_json(result.as_data(path))
    elif accepted is not None:
        print_result(_plain(accepted))
    _explain(result, path)
    if accepted is None:
        code = result.error.exit_code if result.error else GateRefusedError.exit_code
    return code, path


def _plain(synopsis: "Synopsis") -> str:
    return f"{synopsis.title}\n\n{synopsis.text}\n"


def _explain(result: "Result", path: Path | None) -> None:
    best = result.best
    status(bill([attempt.answer for attempt in result.attempts]))
    if best is not None and best.demo_label:
        warn(best.demo_label)  # even with --quiet: nobody must take a demo draft for more
    if result.accepted is None:
        if result.error is not None:
            print_error(str(result.error))
        reasons = " ".join(best.problems) if best else "no answer"
        kept = f"kept as {path}" if path else "nothing saved; --keep-rejected DIR keeps the text"
        print_error(f"refused by the gate: {reasons} ({kept})")
    elif path is not None:
        status(f"saved as {path}")
