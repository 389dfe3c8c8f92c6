"""The commands write, revise, lengths, outline, prompt and page."""

import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from synopsis_writer.characters import count_of
from synopsis_writer.cli import console, end_quietly, lazily, options
from synopsis_writer.cli.console import STDERR, Output, print_error, print_result, status, warn
from synopsis_writer.cli.options import argument, number, option, switch
from synopsis_writer.errors import BriefError, GateRefusedError, InputError, SettingsError, SynopsisError

with lazily():
    import asyncio
    import mimetypes
    import webbrowser

    from synopsis_writer import brief as briefs
    from synopsis_writer import document, drafting, revising, synopsis, usage
    from synopsis_writer import house as houses
    from synopsis_writer import log as runlog
    from synopsis_writer import result as results
    from synopsis_writer import settings as config
    from synopsis_writer import writer as writers
    from synopsis_writer.formats import reading
    from synopsis_writer.gate import features
    from synopsis_writer.page import server
    from synopsis_writer.storage import files

T = TypeVar("T")
_ENDS = 5  # words shown of a sentence in the table of variants
SWITCH_INTERVAL = 0.001  # seconds for which a check may keep the server from answering
_PORT = 8642  # in use by no service that IANA lists


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
    settings = options.settings_from(run, semantic=semantic, out=out)
    others: list[str] = []
    with writers.Writer(settings, log=not run.no_log) as writer:
        if replay is not None:
            named = [*_given(flags), *["outline"] * bool(outline), *["forms"] * bool(forms)]
            if named:
                raise BriefError(f"--replay takes its brief from the log: leave out {', '.join(named)}")
            result = writer.replay_sync(replay)
        else:
            brief, planned = _read_brief(flags, outline)
            if forms is not None:
                if clash := {"form", "words", "character_count"} & _given(flags).keys():
                    flag = min(clash).removesuffix("_count").replace("character", "characters")
                    raise BriefError(f"--forms names the forms, and each has its length: leave out --{flag}")
                house = writer.workspace.house
                others = sorted(writer.other_forms(None, _names(forms)), key=lambda name: -house.form(name).most_words)
                brief = brief.model_copy(update={"form": others.pop(0)})
            # Several drafts at once would overwrite each other on the screen.
            screen = STDERR.screen() if best_of == 1 else None
            on_text = console.live_text(screen) if screen else None
            result = writer.write_sync(brief, outline=planned, best_of=best_of, seed=seed, on_text=on_text)
            STDERR.clear()
        runlog.RUN.set(result.run or None)
        result = replace(result, story=result.run or results.new_run()[0]) if others else result
        work = _Delivery(json, is_one=not others)
        save = partial(_save, writer, saving, result, result.save, settings.out, recorded=replay is None)
        path = work.deliver(result, save)
        if others and result.accepted is not None:
            beside = path or settings.out / result.show.slug / files.slug(result.accepted.title)
            work.retell(writer, saving, result, others, beside)
    return work.end()


def lengths(
    *,
    file: Path = argument("A saved synopsis.", "FILE"),
    forms: str = option("The forms of the house to tell it in.", "A,B,C", "--to", default=...),
    saving: options.SaveFlags,
    run: options.RunFlags,
    semantic: bool | None = options.SEMANTIC,
    json: bool = options.JSON,
) -> int:
    """Tell a saved synopsis again in other lengths; each is checked, and saved beside it."""
    settings = options.settings_from(run, semantic=semantic)
    with writers.Writer(settings, log=not run.no_log) as writer:
        work = _Delivery(json, is_one=False)
        work.retell(writer, saving, reading.read_source(file).document, _names(forms), file)
    return work.end()


def _names(forms: str) -> list[str]:
    return [name.strip() for name in forms.split(",") if name.strip()]


def _save(
    writer: "writers.Writer", saving: options.SaveFlags, result: "results.Result",
    save: Callable[..., Path | None], folder: Path, *, recorded: bool = True,
) -> Path | None:  # fmt: skip
    """Save an accepted text by `save` into a folder, a refused one where --keep-rejected says."""
    if not result.accepted:
        if saving.keep_rejected is None:
            return None
        save, folder = result.save_refused, saving.keep_rejected
    to_file = partial(save, folder, saving.file_format)
    return writer.save_with(to_file, result, force=saving.force, recorded=recorded)


def _tried(work: Callable[[], T]) -> tuple[T | None, str, int]:
    """Return what `work` returns; if it fails, None, the problem, which is printed, and its exit code."""
    try:
        return work(), "", 0
    except Exception as error:  # noqa: BLE001 - whatever it is, the texts are printed
        problem, code = console.failure_of(error)
        print_error(problem)
        return None, problem, code


@dataclass
class _Delivery:
    as_json: bool
    is_one: bool = True  # else each has its form above it, and --json prints a list
    code: int = 0  # the worst one
    texts: list[dict[str, Any]] = field(default_factory=list)  # what `--json` prints

    def deliver(self, result: "results.Result", save: Callable[[], Path | None]) -> Path | None:
        """Save and print a result; return where. An accepted one goes to stdout; one that cannot be saved, too."""
        accepted, best = result.accepted, result.best
        path, problem, code = _tried(save)
        is_printed = (accepted is not None or code) and not self.as_json
        if accepted is None:
            reason = result.error or GateRefusedError(_refusal(result))
            code, problem = reason.exit_code, str(reason)
        text = _plain(result.synopsis) if result.synopsis else best.answer.text if best else ""
        if is_printed and text:
            heading = "" if self.is_one else f"--- {result.brief.form} ---\n"
            print_result(heading + text, is_saved=path is not None)
        status(results.bill_of(result.answered))
        if best is not None and best.demo_label:
            console.warn(best.demo_label)  # even with --quiet: nobody must take a demo draft for more
        if accepted is None:
            if result.error is not None:
                print_error(str(result.error))
            saved = f"saved as {path}" if path else "nothing saved; --keep-rejected FOLDER saves the text"
            print_error(f"{_refusal(result)} ({saved})")
        elif path is not None:
            status(f"saved as {path}")
        if self.as_json:
            data, _, failed = _tried(lambda: result.as_data(path))
            if data is None:  # then the text is printed as it is
                print_result(text, is_saved=path is not None)
            else:
                data |= {"error": problem, "exit_code": code} if code else {}
            self.texts.append(data or {})
            code = failed or code
        self.code = max(self.code, code)
        return path

    def retell(
        self, writer: "writers.Writer", saving: options.SaveFlags,
        source: "document.Document | results.Result", forms: list[str], beside: Path,
    ) -> None:  # fmt: skip
        """Retell a story in other forms, and deliver each, beside its file."""
        try:
            retold = writer.lengths_sync(source, forms)
        except SynopsisError as error:
            if not isinstance(source, results.Result):
                raise
            print_error(str(error))  # the first text is there, and is printed
            self.code = max(self.code, error.exit_code)
            return
        for each in retold:
            save = partial(each.save, beside=beside)
            self.deliver(each, partial(_save, writer, saving, each, save, beside))
        first = source.cost if isinstance(source, results.Result) else None
        lengths = (source, *retold) if isinstance(source, results.Result) else retold
        total = usage.total_cost(each.cost for each in lengths)
        share = f", {total.amount / first.amount:.2f} × the first" if total and first and first.amount else ""
        status(f"{count_of(len(lengths), 'length')}: {usage.format_cost(total)}{share}")

    def end(self) -> int:
        """Print the object of --json; return the exit code."""
        if self.as_json and all(self.texts):
            data = self.texts[0] if self.is_one else {"exit_code": self.code, "texts": self.texts}
            console.print_json(data, is_saved=all(text["path"] for text in self.texts))
        return self.code


def revise(
    *,
    file: Path = argument("A saved text, or your own: .md, .txt, .docx, .html, .json.", "FILE"),
    note: str | None = option("What to change, in your words.", "TEXT", "-n"),
    paragraphs: list[int] = number("Rewrite only this one, from 1; repeatable.", "--paragraph", default=[], min=1),
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
    if title_only and logline_only:
        raise InputError("--title-only and --logline-only: ask for one at a time")
    settings = options.settings_from(run, semantic=semantic)
    screen = STDERR.screen()
    with writers.Writer(settings, log=not run.no_log) as writer:
        revised = writer.revise_sync(
            file,
            note,
            paragraphs=paragraphs,
            keep=keep,
            only="title" if title_only else "logline" if logline_only else None,
            variants=variants,
            people=people,
            on_text=console.live_text(screen) if screen else None,
            **_given(text),
        )
        STDERR.clear()
        runlog.RUN.set(revised.result.run or None)

        def save() -> list[Path | None]:
            paths = writer.save_revised(revised, out)
            for index, result in enumerate(revised.results):
                if result.accepted is None and keep_rejected is not None:
                    paths[index] = result.save_refused(keep_rejected)
            return paths

        if len(revised.results) > 1:
            return _deliver_variants(revised, save, as_json=json)
        work = _Delivery(json)
        work.deliver(revised.result, lambda: save()[0])
    return work.end()


def _deliver_variants(revised: "revising.Revised", save: Callable[[], list[Path | None]], *, as_json: bool) -> int:
    """Save the variants, print what differs, and return the exit code; what cannot be saved is printed."""
    saved, problem, code = _tried(save)
    paths = saved or [None] * len(revised.results)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for variant, (result, path) in enumerate(zip(revised.results, paths, strict=True), start=1):
        if result.accepted is None:
            print_error(f"variant {variant}: {_refusal(result)}")
            code, problem = code or GateRefusedError.exit_code, problem or _refusal(result)
        measured = features.features_of(result.synopsis) if result.synopsis else None
        rows.append({"variant": variant, **result.as_data(path), "features": measured and measured.as_data()})
        if result.synopsis is None or measured is None:
            continue
        first, last = measured.opening.split(), measured.ending.split()
        begins = " ".join(first[:_ENDS]) + " …" * (len(first) > _ENDS)
        ends = "… " * (len(last) > _ENDS) + " ".join(last[-_ENDS:])
        verdict = "" if result.accepted else " (refused)"
        lines += (
            f"{variant}  {result.synopsis.title}, {count_of(len(result.text.split()), 'word')}{verdict}",
            f"   begins: {measured.opening_kind}, {begins}",
            f"   first:  {measured.view or 'nobody'}",
            f"   ends:   {measured.ending_kind}, {ends}",
            f"   file:   {path or 'not saved'}",
            *([] if path else ["", _plain(result.synopsis)]),
        )
    status(results.bill_of(revised.result.answered))
    if as_json:
        failure = {"error": problem, "exit_code": code} if code else {}
        data = {"passed": revised.is_accepted, "variants": rows, **failure}
        console.print_json(data, is_saved=all(paths))
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
    settings = options.settings_from(request, responses=responses)
    brief, _ = _read_brief(flags, None)
    with writers.Writer(settings, log=not no_log) as writer:
        planned = writer.outline_sync(brief, seed=seed)
        brief, _ = writer.resolve(brief)
    plan = document.format_yaml({"brief": brief.as_data(), **planned.model_dump(mode="json")})
    print_result(plan, is_saved=False)


def prompt(
    *,
    flags: options.BriefFlags,
    outline: Path | None = options.OUTLINE,
    prompt: options.PromptFlags,
    _output: options.OutputFlags,
) -> Output:
    """Print what would be sent, and its approximate length in tokens, without asking a model."""
    brief, planned = _read_brief(flags, outline)
    with writers.Writer(options.settings_from(prompt)) as writer:
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
    return Output(data, ["\n\n".join(parts)])


def _given(flags: options.TextFlags) -> dict[str, Any]:
    return {name: value for name, value in vars(flags).items() if value not in (None, [])}


def _read_brief(flags: options.BriefFlags, outline: Path | None) -> "tuple[briefs.Brief, synopsis.Outline | None]":
    fields, planned = _given(flags), None
    if outline is not None:
        brief, planned = drafting.load_outline(outline)
        fields = {**brief.as_data(), **fields}
    for name in ("show", "theme"):
        if name not in fields:
            raise BriefError(f"no {name}: name it with --{name}")
    return briefs.make_brief(**fields), planned


def _refusal(result: "results.Result") -> str:
    return f"refused by the gate: {' '.join(result.best.problems) if result.best else 'no answer'}"


def _plain(text: "synopsis.Synopsis") -> str:
    return f"{text.title}\n\n{text.text}\n"


def page(
    *,
    port: int = number("The port to listen on; 0 is any free one.", default=_PORT, min=0, max=65535),
    no_open: bool = switch("Do not open a browser."),
    host: str = option(
        "The address to listen on; another than this machine's needs --insecure.", "ADDRESS", default="127.0.0.1"
    ),
    out: Path | None = option("The folder of saved texts.  [default: synopsen]", "FOLDER"),
    run: options.RunFlags,
    semantic: bool | None = options.SEMANTIC,
) -> int:
    """Open the editor's page in your browser: write, correct, revise, release and export texts there.

    It is served on this machine for this machine alone, until Ctrl-C.
    """
    settings = options.settings_from(run, semantic=semantic, out=out)
    return open_page(settings, host, port, log=not run.no_log, no_open=no_open)


def open_page(
    settings: "config.Settings", host: str = "127.0.0.1", port: int = 0, *,
    log: bool = True, no_open: bool = False, fragment: str = "",
) -> int:  # fmt: skip
    """Serve the page until Ctrl-C, and open a browser at its address; `fragment` is what to show there."""
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise SettingsError("the page needs an extra: pip install 'synopsis-writer[page]'")
    if not server.is_loopback(host):
        if not settings.insecure:
            raise InputError(
                f"--host {host}: the page would go over plain http to other machines, and whoever reads that "
                "network could read your texts and change them: leave --host out, or add --insecure"
            )
        warn(f"{host}: whoever reads this network can read your texts, and change them")
    sys.setswitchinterval(SWITCH_INTERVAL)
    mimetypes.add_type("text/javascript", ".js")  # some Windows registries say otherwise
    houses.open_house(settings)  # fails at once if the house is broken
    # A text browser would take over the terminal.
    has_window = sys.platform in {"win32", "darwin"} or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys()
    with server.listen(host, port) as listening:
        access = server.Access(host, listening.getsockname()[1])
        address = access.address + fragment

        def show() -> None:
            warn(f"the page: {address}")
            if has_window and not no_open:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        def freeze() -> None:
            gc.collect()
            gc.freeze()  # a full pass over all that is loaded would stop all threads for 60 ms

        app = server.application(access, lambda: writers.Writer(settings, log=log), settings.lang, show, freeze)
        try:
            asyncio.run(server.serve(app, listening))
        except KeyboardInterrupt:
            end_quietly()
    return 0
