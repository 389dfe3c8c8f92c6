"""The commands write, lengths, outline and prompt."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    STDERR,
    LiveText,
    failure_of,
    format_json,
    print_error,
    print_json,
    print_result,
    status,
    warn,
)
from synopsis_writer.cli.options import option
from synopsis_writer.errors import BriefError, GateRefusedError, SynopsisError

if TYPE_CHECKING:
    from synopsis_writer.brief import Brief
    from synopsis_writer.document import Document
    from synopsis_writer.result import Result
    from synopsis_writer.synopsis import Outline, Synopsis
    from synopsis_writer.writer import Writer

_Texts = list[dict[str, Any]]  # what `--json` prints of several lengths


@options.grouped
def write(
    *,
    flags: options.BriefFlags,
    forms: Annotated[
        str | None,
        option("--forms", "Several forms, one story: the longest first, the others told from it.", "A,B,C"),
    ] = None,
    outline: options.OutlineFile = None,
    out: Annotated[
        Path | None, option("--out", "The folder to save in.  [default: synopsen]", "FOLDER")
    ] = None,
    saving: options.SaveFlags,
    best_of: Annotated[int, option("--best-of", "First drafts to choose from.", "N", min=1, max=16)] = 1,
    replay: Annotated[
        str | None, option("--replay", "Repeat a logged run without asking a model.", "RUN")
    ] = None,
    seed: options.Seed = None,
    run: options.RunFlags,
    semantic: options.Semantic = None,
    json: options.Json = False,
) -> int:
    """Write, check and save one synopsis; the text goes to stdout."""
    from synopsis_writer.log import RUN
    from synopsis_writer.result import new_run
    from synopsis_writer.storage.files import slug
    from synopsis_writer.writer import Writer

    settings = options.settings_from(run, semantic=semantic, out=out)
    with Writer(settings, log=not run.no_log) as writer:
        others: list[str] = []
        if replay is not None:
            others_given = {"outline": outline, "forms": forms}
            fields = {**_given(flags), **{name: value for name, value in others_given.items() if value}}
            if fields:
                raise BriefError(f"--replay takes its brief from the log: leave out {', '.join(fields)}")
            result = writer.replay_sync(replay)
        else:
            brief, planned = _read_brief(flags, outline)
            others = _others(writer, flags, forms)
            brief = brief.model_copy(update={"form": others.pop(0)}) if others else brief
            # Several drafts at once would overwrite each other on the screen.
            console = STDERR.screen() if best_of == 1 else None
            on_text = LiveText(console).show if console else None
            result = writer.write_sync(brief, outline=planned, best_of=best_of, seed=seed, on_text=on_text)
            STDERR.clear()
        RUN.set(result.run or None)
        texts: _Texts | None = [] if json and others else None
        result = replace(result, story=result.run or new_run()[0]) if others else result
        save = _to_file(writer, result, result.save, settings.out, saving, recorded=replay is None)
        code, path = deliver(result, save, as_json=json, texts=texts, named=bool(others))
        if others and result.accepted is not None:
            beside = path or settings.out / result.show.slug / slug(result.accepted.title)
            try:
                told = _tell(writer, result, others, beside, saving, texts)
            except SynopsisError as error:  # the first text is there, and is printed
                print_error(str(error))
                told = error.exit_code
            code = max(code, told)
        if texts is not None:
            _print_texts(code, texts)
    return code


@options.grouped
def lengths(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A saved synopsis.")],
    forms: Annotated[str, option("--to", "The forms to tell it in, of the house.", "A,B,C")],
    saving: options.SaveFlags,
    run: options.RunFlags,
    semantic: options.Semantic = None,
    json: options.Json = False,
) -> int:
    """Tell a saved synopsis again in other lengths; each is checked, and saved beside it."""
    from synopsis_writer.formats.reading import read_source
    from synopsis_writer.writer import Writer

    settings = options.settings_from(run, semantic=semantic)
    texts: _Texts | None = [] if json else None
    with Writer(settings, log=not run.no_log) as writer:
        code = _tell(writer, read_source(file).document, _names(forms), file, saving, texts)
    if texts is not None:
        _print_texts(code, texts)
    return code


def _print_texts(code: int, texts: _Texts) -> None:
    print_json({"exit_code": code, "texts": texts}, is_saved=all(text["path"] for text in texts))


def _names(forms: str) -> list[str]:
    return [name.strip() for name in forms.split(",") if name.strip()]


def _others(writer: "Writer", flags: options.BriefFlags, forms: str | None) -> list[str]:
    """Return the forms of `--forms`, the longest first; raises BriefError."""
    if forms is None:
        return []
    if clash := {"form", "words", "character_count"} & _given(flags).keys():
        flag = {"character_count": "characters"}.get(name := min(clash), name)
        raise BriefError(f"--forms names the forms, and each has its length: leave out --{flag}")
    names, house = writer.other_forms(None, _names(forms)), writer.workspace.house
    return sorted(names, key=lambda name: -house.form(name).most_words)


def _tell(
    writer: "Writer",
    source: "Document | Result",
    forms: list[str],
    beside: Path,
    saving: options.SaveFlags,
    texts: _Texts | None,
) -> int:
    """Tell a story in other forms, save and print each; return the worst exit code."""
    from synopsis_writer.result import Result
    from synopsis_writer.usage import format_cost, total_cost

    code, results = 0, [source] if isinstance(source, Result) else []
    for told in writer.lengths_sync(source, forms):
        save = _to_file(writer, told, told.save_beside, beside, saving)
        code = max(code, deliver(told, save, as_json=False, texts=texts, named=True)[0])
        results.append(told)
    total = total_cost(result.cost for result in results)
    first = source.cost if isinstance(source, Result) else None
    share = f", {total.amount / first.amount:.2f} × the first" if total and first and first.amount else ""
    status(f"{len(results)} lengths: {format_cost(total)}{share}")
    return code


def _to_file(
    writer: "Writer",
    result: "Result",
    save: Callable[..., Path],
    path: Path,
    saving: options.SaveFlags,
    *,
    recorded: bool = True,
) -> Callable[[], Path | None] | None:
    """Return what saves a result: an accepted one by `save`, a refused one where --keep-rejected says."""
    chosen: Callable[..., Path | None] = save if result.accepted else result.save_refused
    folder = path if result.accepted else saving.keep_rejected
    if folder is None:
        return None
    to_path = partial(chosen, folder, saving.file_format)
    return partial(writer.save_with, to_path, result, force=saving.force, recorded=recorded)


@options.grouped
def outline(
    *,
    flags: options.BriefFlags,
    request: options.RequestFlags,
    responses: options.Responses = None,
    no_log: options.NoLog = False,
    seed: options.Seed = None,
) -> None:
    """Write only the plan, as YAML on stdout: edit it, then pass it to 'synopsis write --outline FILE'."""
    from synopsis_writer.drafting import format_outline
    from synopsis_writer.writer import Writer

    settings = options.settings_from(request, responses=responses)
    brief, _ = _read_brief(flags, None)
    with Writer(settings, log=not no_log) as writer:
        planned = writer.outline_sync(brief, seed=seed)
        brief, _ = writer.resolve(brief)
    print_result(format_outline(brief, planned), is_saved=False)


@options.grouped
def prompt(
    *,
    flags: options.BriefFlags,
    outline: options.OutlineFile = None,
    prompt: options.PromptFlags,
    json: options.Json = False,
    _output: options.OutputFlags,
) -> None:
    """Print what would be sent, and its approximate length in tokens, without asking a model."""
    from synopsis_writer.writer import Writer

    brief, planned = _read_brief(flags, outline)
    with Writer(options.settings_from(prompt)) as writer:
        rendered = writer.prompt(brief, outline=planned, avoid=writer.avoid(brief))
        shown = writer.select(brief)
    status(f"about {rendered.tokens} tokens, with {len(shown) or 'no'} example{'s' * (len(shown) != 1)}")
    for chosen in shown:
        status(f"  {chosen.example.id}: {chosen.tokens} tokens; {chosen.why}")
    if json:
        print_json(
            {
                "messages": [asdict(message) for message in rendered.messages],
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


def _given(flags: options.BriefFlags) -> dict[str, Any]:
    return {name: value for name, value in vars(flags).items() if value not in (None, [])}


def _read_brief(flags: options.BriefFlags, outline: Path | None) -> "tuple[Brief, Outline | None]":
    """Return the brief of the flags and, where one is named, an outline file; flags go before the file."""
    from synopsis_writer.brief import make_brief

    fields, planned = _given(flags), None
    if outline is not None:
        from synopsis_writer.drafting import load_outline

        brief, planned = load_outline(outline)
        fields = {**brief.as_data(), **fields}
    for name in ("show", "theme"):
        if name not in fields:
            raise BriefError(f"no {name}: name it with --{name}")
    return make_brief(**fields), planned


def deliver(
    result: "Result",
    save: Callable[[], Path | None] | None,
    *,
    as_json: bool,
    texts: _Texts | None = None,
    named: bool = False,
) -> tuple[int, Path | None]:
    """Save and print a result; return the exit code, and where it was saved; None saves nothing.

    An accepted synopsis goes to stdout, too, or into `texts`; a refused one does not. A text that cannot be
    saved is printed all the same. `named` puts the form above it.
    """
    from synopsis_writer.result import bill_of

    accepted, best = result.accepted, result.best
    code, path, problem = 0, None, ""
    if save is not None:
        try:
            path = save()
        except Exception as error:  # noqa: BLE001 - whatever it is, the text is printed
            problem, code = failure_of(error)
            print_error(problem)
    is_unsaved = bool(code)
    if accepted is None:
        reason = result.error or GateRefusedError(refusal(result))
        code, problem = reason.exit_code, str(reason)
    failure = {"error": problem, "exit_code": code} if code else {}
    text = ""
    if accepted is not None or is_unsaved:
        text = plain(result.synopsis) if result.synopsis else best.answer.text if best else ""
        text = f"--- {result.brief.form} ---\n{text}" if named else text
    if texts is not None:
        texts.append({**result.as_data(path), **failure})
    else:
        code = _print_text(result, path, code, text, failure if as_json else None)
    status(bill_of(result.answered))
    if best is not None and best.demo_label:
        warn(best.demo_label)  # with --quiet, too: nobody must take a demo draft for more
    if accepted is None:
        if result.error is not None:
            print_error(str(result.error))
        saved = f"saved as {path}" if path else "nothing saved; --keep-rejected FOLDER saves the text"
        print_error(f"{refusal(result)} ({saved})")
    elif path is not None:
        status(f"saved as {path}")
    return code, path


def refusal(result: "Result") -> str:
    """Return why the gate refuses a result."""
    return f"refused by the gate: {' '.join(result.best.problems) if result.best else 'no answer'}"


def _print_text(
    result: "Result", path: Path | None, code: int, text: str, failure: Mapping[str, Any] | None
) -> int:
    """Print a text, or all of its result with what failed as JSON; return the exit code."""
    if failure is not None:
        try:
            text = format_json({**result.as_data(path), **failure}, indent=2)
        except Exception as error:  # noqa: BLE001 - then it is printed as it is
            problem, code = failure_of(error)
            print_error(problem)
        STDERR.expects_json = False
    if text:
        print_result(text, is_saved=path is not None)
    return code


def plain(synopsis: "Synopsis") -> str:
    """Return title and text."""
    return f"{synopsis.title}\n\n{synopsis.text}\n"
