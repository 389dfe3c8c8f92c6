"""The commands write, revise, lengths, outline and prompt."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synopsis_writer.characters import count_of
from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    STDERR,
    LiveText,
    failure_of,
    print_error,
    print_json,
    print_output,
    print_result,
    status,
    warn,
)
from synopsis_writer.cli.options import argument, number, option, switch
from synopsis_writer.errors import BriefError, GateRefusedError, InputError, SynopsisError

if TYPE_CHECKING:
    from synopsis_writer.brief import Brief
    from synopsis_writer.document import Document
    from synopsis_writer.result import Result
    from synopsis_writer.revising import Revised
    from synopsis_writer.synopsis import Outline, Synopsis
    from synopsis_writer.writer import Writer

_ENDS = 5  # words of a sentence in the table of variants


def write(
    *,
    flags: options.BriefFlags,
    forms: str | None = option("Several forms of one story, told from the longest.", "A,B,C"),
    outline: Path | None = options.OUTLINE,
    out: Path | None = option("The folder to save in.  [default: synopsen]", "FOLDER"),
    saving: options.SaveFlags,
    best_of: int = number("First drafts to choose from.", default=1, min=1, max=16),
    replay: str | None = option("Repeat a logged run without asking a model.", "RUN"),
    seed: int | None = options.SEED,
    run: options.RunFlags,
    semantic: bool | None = options.SEMANTIC,
    json: bool = options.JSON,
) -> int:
    """Write, check and save one synopsis; the text goes to stdout."""
    from synopsis_writer.log import RUN
    from synopsis_writer.result import new_run
    from synopsis_writer.storage.files import slug
    from synopsis_writer.writer import Writer

    settings = options.settings_from(run, semantic=semantic, out=out)
    others: list[str] = []
    with Writer(settings, log=not run.no_log) as writer:
        if replay is not None:
            named = [*_given(flags), *["outline"] * bool(outline), *["forms"] * bool(forms)]
            if named:
                raise BriefError(f"--replay takes its brief from the log: leave out {', '.join(named)}")
            result = writer.replay_sync(replay)
        else:
            brief, planned = _read_brief(flags, outline)
            if forms is not None:
                others = _longest_first(writer, flags, forms)
                brief = brief.model_copy(update={"form": others.pop(0)})
            # Several drafts at once would overwrite each other on the screen.
            console = STDERR.screen() if best_of == 1 else None
            on_text = LiveText(console).show if console else None
            result = writer.write_sync(brief, outline=planned, best_of=best_of, seed=seed, on_text=on_text)
            STDERR.clear()
        RUN.set(result.run or None)
        result = replace(result, story=result.run or new_run()[0]) if others else result
        work = _Delivery(writer, saving, json, is_one=not others)
        path = work.deliver(result, result.save, settings.out, recorded=replay is None)
        if others and result.accepted is not None:
            beside = path or settings.out / result.show.slug / slug(result.accepted.title)
            work.tell(result, others, beside)
    return work.end()


def lengths(
    *,
    file: Path = argument("A saved synopsis.", "FILE"),
    forms: str = option("The forms to tell it in, of the house.", "A,B,C", "--to", default=...),
    saving: options.SaveFlags,
    run: options.RunFlags,
    semantic: bool | None = options.SEMANTIC,
    json: bool = options.JSON,
) -> int:
    """Tell a saved synopsis again in other lengths; each is checked, and saved beside it."""
    from synopsis_writer.formats.reading import read_source
    from synopsis_writer.writer import Writer

    settings = options.settings_from(run, semantic=semantic)
    with Writer(settings, log=not run.no_log) as writer:
        work = _Delivery(writer, saving, json)
        work.tell(read_source(file).document, _names(forms), file)
    return work.end()


def _names(forms: str) -> list[str]:
    return [name.strip() for name in forms.split(",") if name.strip()]


def _longest_first(writer: "Writer", flags: options.BriefFlags, forms: str) -> list[str]:
    """Return the forms of `--forms`; raises BriefError."""
    if clash := {"form", "words", "character_count"} & _given(flags).keys():
        flag = min(clash).removesuffix("_count").replace("character", "characters")
        raise BriefError(f"--forms names the forms, and each has its length: leave out --{flag}")
    names, house = writer.other_forms(None, _names(forms)), writer.workspace.house
    return sorted(names, key=lambda name: -house.form(name).most_words)


@dataclass
class _Delivery:
    """Saves and prints the texts of one story."""

    writer: "Writer"
    saving: options.SaveFlags
    as_json: bool
    is_one: bool = False  # there are no other lengths
    code: int = 0  # the worst one
    texts: list[dict[str, Any]] = field(default_factory=list)  # what `--json` prints

    def deliver(
        self, result: "Result", save: Callable[..., Path], folder: Path, *, recorded: bool = True
    ) -> Path | None:
        """Deliver a result, an accepted one by `save`, a refused one where --keep-rejected says."""
        target: Path | None = folder
        chosen: Callable[..., Path | None] = save
        if not result.accepted:
            target, chosen = self.saving.keep_rejected, result.save_refused

        def to_file() -> Path | None:
            if target is None:
                return None
            to_path = partial(chosen, target, self.saving.file_format)
            return self.writer.save_with(to_path, result, force=self.saving.force, recorded=recorded)

        code, path, data = deliver(result, to_file, as_json=self.as_json, is_named=not self.is_one)
        self.code = max(self.code, code)
        self.texts.append(data)
        return path

    def tell(self, source: "Document | Result", forms: list[str], beside: Path) -> None:
        """Tell a story in other forms, and deliver each."""
        from synopsis_writer.result import Result
        from synopsis_writer.usage import format_cost, total_cost

        try:
            told = self.writer.lengths_sync(source, forms)
        except SynopsisError as error:
            if not self.texts:
                raise
            print_error(str(error))  # the first text is there, and is printed
            self.code = max(self.code, error.exit_code)
            return
        for result in told:
            self.deliver(result, result.save_beside, beside)
        first = source.cost if isinstance(source, Result) else None
        results = (source, *told) if isinstance(source, Result) else told
        total = total_cost(result.cost for result in results)
        share = f", {total.amount / first.amount:.2f} × the first" if total and first and first.amount else ""
        status(f"{count_of(len(results), 'length')}: {format_cost(total)}{share}")

    def end(self) -> int:
        """Print the object of --json; return the exit code."""
        if self.as_json and all(self.texts):
            data = self.texts[0] if self.is_one else {"exit_code": self.code, "texts": self.texts}
            print_json(data, is_saved=all(text["path"] for text in self.texts))
        return self.code


def revise(
    *,
    file: Path = argument("A saved text, or your own: .md, .txt, .docx, .html, .json.", "FILE"),
    note: str | None = option("What to change, in your words.", "TEXT", "-n"),
    paragraphs: list[int] = number(
        "Rewrite only this one, from 1; repeatable.", "--paragraph", default=[], min=1
    ),
    keep: list[str] = option("Words that must stay as they are; repeatable.", "TEXT", default=[]),
    title_only: bool = switch("Rewrite only the title."),
    logline_only: bool = switch("Rewrite only the logline."),
    variants: int = number("Versions that differ on purpose, to choose from.", default=1, min=1, max=5),
    text: options.TextFlags,
    people: list[str] = option(
        "'Name: Rolle' of a person, where the text lists none.", "NAME", "--character", default=[]
    ),
    out: Path | None = option("Save into this folder, and leave FILE as it is.", "FOLDER"),
    keep_rejected: Path | None = options.KEEP_REJECTED,
    run: options.RunFlags,
    semantic: bool | None = options.SEMANTIC,
    json: bool = options.JSON,
) -> int:
    """Have the model rewrite a text as you wish; the file then holds the new version, the log the old one.

    The new version must pass the gate as any other text. With --no-log the old file stays, and the new
    version is saved beside it.
    """
    from synopsis_writer.log import RUN
    from synopsis_writer.writer import Writer

    if title_only and logline_only:
        raise InputError("--title-only and --logline-only: ask for one at a time")
    settings = options.settings_from(run, semantic=semantic)
    console = STDERR.screen()
    with Writer(settings, log=not run.no_log) as writer:
        revised = writer.revise_sync(
            file,
            note,
            paragraphs=paragraphs,
            keep=keep,
            only="title" if title_only else "logline" if logline_only else None,
            variants=variants,
            people=people,
            on_text=LiveText(console).show if console else None,
            **_given(text),
        )
        STDERR.clear()
        RUN.set(revised.result.run or None)

        def save() -> list[Path | None]:
            paths = writer.save_revised(revised, out)
            for index, result in enumerate(revised.results):
                if result.accepted is None and keep_rejected is not None:
                    paths[index] = result.save_refused(keep_rejected)
            return paths

        if len(revised.results) > 1:
            return _deliver_variants(revised, save, as_json=json)
        code, path, data = deliver(revised.result, lambda: save()[0], as_json=json)
    if data:
        print_json(data, is_saved=path is not None)
    return code


def _deliver_variants(revised: "Revised", save: Callable[[], list[Path | None]], *, as_json: bool) -> int:
    """Save the variants, print what differs, and return the exit code; what cannot be saved is printed."""
    from synopsis_writer.gate.features import features_of
    from synopsis_writer.result import bill_of

    code, problem = 0, ""
    paths: list[Path | None] = [None] * len(revised.results)
    try:
        paths = save()
    except Exception as error:  # noqa: BLE001 - whatever it is, the texts are printed
        problem, code = failure_of(error)
        print_error(problem)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for variant, (result, path) in enumerate(zip(revised.results, paths, strict=True), start=1):
        if result.accepted is None:
            print_error(f"variant {variant}: {refusal(result)}")
            code, problem = code or GateRefusedError.exit_code, problem or refusal(result)
        features = features_of(result.synopsis) if result.synopsis else None
        rows.append({"variant": variant, **result.as_data(path), "features": features and features.as_data()})
        if result.synopsis is None or features is None:
            continue
        first, last = features.opening.split(), features.ending.split()
        begins = " ".join(first[:_ENDS]) + " …" * (len(first) > _ENDS)
        ends = "… " * (len(last) > _ENDS) + " ".join(last[-_ENDS:])
        verdict = "" if result.accepted else " (refused)"
        lines += (
            f"{variant}  {result.synopsis.title}, {count_of(len(result.text.split()), 'word')}{verdict}",
            f"   begins: {features.opening_kind}, {begins}",
            f"   first:  {features.view or 'nobody'}",
            f"   ends:   {features.ending_kind}, {ends}",
            f"   file:   {path or 'not saved'}",
            *([] if path else ["", plain(result.synopsis)]),
        )
    status(bill_of(revised.result.answered))
    if as_json:
        data = {"passed": revised.is_accepted, "variants": rows, **failure(problem, code)}
        print_json(data, is_saved=all(paths))
    elif lines:
        print_result("\n".join(lines), is_saved=all(paths))
    return code


def outline(
    *,
    flags: options.BriefFlags,
    request: options.RequestFlags,
    responses: options.CacheUse | None = options.CACHE,
    no_log: bool = options.NO_LOG,
    seed: int | None = options.SEED,
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


def prompt(
    *,
    flags: options.BriefFlags,
    outline: Path | None = options.OUTLINE,
    prompt: options.PromptFlags,
    json: bool = options.JSON,
    _output: options.OutputFlags,
) -> None:
    """Print what would be sent, and its approximate length in tokens, without asking a model."""
    from synopsis_writer.writer import Writer

    brief, planned = _read_brief(flags, outline)
    with Writer(options.settings_from(prompt)) as writer:
        rendered = writer.prompt(brief, outline=planned, avoid=writer.avoid(brief))
        shown = writer.select(brief)
    examples = [{"id": each.example.id, "tokens": each.tokens, "why": each.why} for each in shown]
    status(f"about {rendered.tokens} tokens, with {count_of(len(shown), 'example')}")
    for each in examples:
        status(f"  {each['id']}: {each['tokens']} tokens; {each['why']}")
    data = {
        "messages": [asdict(message) for message in rendered.messages],
        "tokens": rendered.tokens,
        "examples": examples,
        "prompt": {"name": rendered.name, "version": rendered.version, "hash": rendered.hash},
    }
    parts = (f"--- {message.role} ---\n{message.content}" for message in rendered.messages)
    print_output(data, ["\n\n".join(parts)], as_json=json)


def _given(flags: options.TextFlags) -> dict[str, Any]:
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
    result: "Result", save: Callable[[], Path | None], *, as_json: bool, is_named: bool = False
) -> tuple[int, Path | None, dict[str, Any]]:
    """Save and print a result; return the exit code, where it was saved, and what `--json` prints of it.

    An accepted synopsis goes to stdout, but for `as_json`; a refused one does not. A text that cannot be
    saved is printed all the same. `is_named` puts the form above it. The data is empty without `as_json`.
    """
    from synopsis_writer.result import bill_of

    accepted, best = result.accepted, result.best
    code, path, problem = 0, None, ""
    try:
        path = save()
    except Exception as error:  # noqa: BLE001 - whatever it is, the text is printed
        problem, code = failure_of(error)
        print_error(problem)
    is_printed = (accepted is not None or bool(code)) and not as_json
    if accepted is None:
        reason = result.error or GateRefusedError(refusal(result))
        code, problem = reason.exit_code, str(reason)
    text = plain(result.synopsis) if result.synopsis else best.answer.text if best else ""
    if is_printed and text:
        heading = f"--- {result.brief.form} ---\n" if is_named else ""
        print_result(heading + text, is_saved=path is not None)
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
    if not as_json:
        return code, path, {}
    try:
        return code, path, {**result.as_data(path), **failure(problem, code)}
    except Exception as error:  # noqa: BLE001 - then the text is printed as it is
        problem, code = failure_of(error)
        print_error(problem)
        print_result(text, is_saved=path is not None)
        return code, path, {}


def failure(problem: str, code: int) -> dict[str, Any]:
    """Return what the object of --json has besides after a failure."""
    return {"error": problem, "exit_code": code} if code else {}


def refusal(result: "Result") -> str:
    """Return why the gate refuses a result."""
    return f"refused by the gate: {' '.join(result.best.problems) if result.best else 'no answer'}"


def plain(synopsis: "Synopsis") -> str:
    """Return title and text."""
    return f"{synopsis.title}\n\n{synopsis.text}\n"
