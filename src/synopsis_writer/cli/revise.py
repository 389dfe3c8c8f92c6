"""The command revise."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    STDERR,
    LiveText,
    failure_of,
    print_error,
    print_json,
    print_result,
    status,
)
from synopsis_writer.cli.options import option
from synopsis_writer.cli.write import deliver, plain, refusal
from synopsis_writer.errors import GateRefusedError, InputError

if TYPE_CHECKING:
    from synopsis_writer.revising import Revised
    from synopsis_writer.writer import Writer

_ENDS = 5  # words of a sentence in the table of variants


@options.grouped
def revise(
    *,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A saved text, or your own: .md, .txt, .docx, .html, .json."),
    ],
    note: Annotated[
        str | None, option("--note", "What to change, in your words.", "TEXT", short="-n")
    ] = None,
    paragraphs: Annotated[
        list[int] | None,
        option("--paragraph", "Write only this one anew, from 1; repeatable.", "N", min=1),
    ] = None,
    keep: Annotated[
        list[str] | None, option("--keep", "Words that must stay as they are; repeatable.", "TEXT")
    ] = None,
    words: options.Words = None,
    character_count: options.Characters = None,
    form: options.FormOption = None,
    title_only: Annotated[bool, option("--title-only", "Write only the title anew.")] = False,
    logline_only: Annotated[bool, option("--logline-only", "Write only the logline anew.")] = False,
    variants: Annotated[
        int, option("--variants", "Versions that differ on purpose, to choose from.", "N", min=1, max=5)
    ] = 1,
    show: options.Show = None,
    theme: options.Theme = None,
    people: Annotated[
        list[str] | None,
        option("--character", "A person of a text that lists none, as 'Name: Rolle'; repeatable.", "NAME"),
    ] = None,
    out: Annotated[
        Path | None, option("--out", "Save into this folder, and leave FILE as it is.", "FOLDER")
    ] = None,
    keep_rejected: options.KeepRejected = None,
    run: options.RunFlags,
    semantic: options.Semantic = None,
    json: options.Json = False,
) -> int:
    """Have the model rewrite a text as you wish; the file then holds the new version, the log the old one.

    The new version must pass the gate as any other text. With --no-log the old file stays, and the new
    version is saved beside it.
    """
    from synopsis_writer.log import RUN
    from synopsis_writer.writer import Writer

    if title_only and logline_only:
        raise InputError("--title-only and --logline-only: ask for one at a time")
    only: Literal["title", "logline"] | None = "title" if title_only else "logline" if logline_only else None
    settings = options.settings_from(run, semantic=semantic)
    brief = {"show": show, "theme": theme, "form": form, "words": words, "character_count": character_count}
    fields: Any = {name: value for name, value in brief.items() if value is not None}
    with Writer(settings, log=not run.no_log) as writer:
        console = STDERR.screen()
        revised = writer.revise_sync(
            file,
            note,
            paragraphs=paragraphs or (),
            keep=keep or (),
            only=only,
            variants=variants,
            people=people or (),
            on_text=LiveText(console).show if console else None,
            **fields,
        )
        STDERR.clear()
        RUN.set(revised.result.run or None)
        if len(revised.results) > 1:
            return _deliver_variants(writer, revised, out, keep_rejected, as_json=json)
        save = partial(revised.result.save_refused, keep_rejected) if keep_rejected else None
        if revised.is_accepted:
            return deliver(revised.result, lambda: writer.save_revised(revised, out)[0], as_json=json)[0]
        return deliver(revised.result, save, as_json=json)[0]


def _deliver_variants(
    writer: "Writer", revised: "Revised", out: Path | None, keep_rejected: Path | None, *, as_json: bool
) -> int:
    """Save the variants, print what differs, and return the exit code; what cannot be saved is printed."""
    from synopsis_writer.gate.features import features_of
    from synopsis_writer.result import bill_of

    code, problem = 0, ""
    paths: list[Path | None] = [None] * len(revised.results)
    try:
        paths = writer.save_revised(revised, out)
        for index, result in enumerate(revised.results):
            if result.accepted is None and keep_rejected is not None:
                paths[index] = result.save_refused(keep_rejected)
    except Exception as error:  # noqa: BLE001 - whatever it is, the texts are printed
        problem, code = failure_of(error)
        print_error(problem)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for number, (result, path) in enumerate(zip(revised.results, paths, strict=True), start=1):
        if result.accepted is None:
            print_error(f"variant {number}: {refusal(result)}")
            code, problem = code or GateRefusedError.exit_code, problem or refusal(result)
        features = features_of(result.synopsis) if result.synopsis else None
        rows.append({"variant": number, **result.as_data(path), "features": features and features.as_data()})
        if result.synopsis is None or features is None:
            continue
        first, last = features.opening.split(), features.ending.split()
        begins = " ".join(first[:_ENDS]) + " …" * (len(first) > _ENDS)
        ends = "… " * (len(last) > _ENDS) + " ".join(last[-_ENDS:])
        verdict = "" if result.accepted else " (refused)"
        lines += (
            f"{number}  {result.synopsis.title}, {len(result.text.split())} words{verdict}",
            f"   begins: {features.opening_kind}, {begins}",
            f"   first:  {features.view or 'nobody'}",
            f"   ends:   {features.ending_kind}, {ends}",
            f"   file:   {path or 'not saved'}",
            *([] if path else ["", plain(result.synopsis)]),
        )
    status(bill_of(revised.result.answered))
    if as_json:
        failure = {"error": problem, "exit_code": code} if code else {}
        data = {"passed": revised.is_accepted, "variants": rows, **failure}
        print_json(data, is_saved=all(paths))
    elif lines:
        print_result("\n".join(lines), is_saved=all(paths))
    return code
