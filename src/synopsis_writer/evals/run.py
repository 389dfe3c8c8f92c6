"""An eval run: cases by models by prompt versions by repeats, written, judged and scored."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Self

from synopsis_writer import __version__
from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.document import read_text
from synopsis_writer.errors import BriefError, ModelError, RequestRefusedError, SettingsError
from synopsis_writer.evals.judge import judge_rows, name_jury, open_judge, resolve_judge, run_spending
from synopsis_writer.evals.metrics import chrf_scorer
from synopsis_writer.evals.record import Key, Row, RunFolder, RunInfo, read_prompts, write_prompts
from synopsis_writer.evals.results import EvalResults, open_results
from synopsis_writer.evals.suite import Case, LoadedSuite, case_hash
from synopsis_writer.gate.lexicon import ADDRESSES, TITLES
from synopsis_writer.gate.sources import name_forms
from synopsis_writer.gate.story import COPIED_RUN
from synopsis_writer.gate.text import analyse
from synopsis_writer.models.base import bill
from synopsis_writer.models.limits import Budget
from synopsis_writer.prompts.templates import JUDGE_TEMPLATES, folder_hash, template_path, template_texts
from synopsis_writer.result import Result
from synopsis_writer.settings import folder, of_house
from synopsis_writer.show import find_show, generic_show
from synopsis_writer.storage.files import real_path
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import Workspace
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)


def plan(
    path: Path, cases: Sequence[Case], models: Sequence[str], prompts: Mapping[str, Path], repeats: int,
    attempts: int, reviewed: str = "",
) -> RunInfo:  # fmt: skip
    """Return the plan of a run as it is recorded; texts that a model `reviewed` count as another prompt's."""
    hashes = {prompt: folder_hash(templates) + reviewed for prompt, templates in prompts.items()}
    known = {case.id: case_hash(case) for case in cases}
    name, created = real_path(path).name, datetime.now(UTC).isoformat(timespec="seconds")
    return RunInfo(name, created, __version__, tuple(models), hashes, known, repeats, attempts)


class EvalRun:
    """A run in its folder, continued: `run` makes it, or, in a `with` block, its steps; raises InputError."""

    def __init__(
        self,
        writer: Writer,  # gives settings, key and log; the run's models and prompts replace its own
        suite: LoadedSuite,  # the cases with their references, and what the results are checked against
        out: Path,  # the run's folder
        *,
        models: Sequence[str] = (),  # none: the writer's
        prompts: Sequence[Path] = (),  # folders of templates; none: the writer's
        cases: Sequence[str] = (),  # ids, forms, splits, groups, glob patterns; none: all but the held-out
        repeats: int = 1,  # answers per case, model and prompt version
        concurrency: int = 4,  # texts written or judged at once; a model in this process writes one by one
        judges: Sequence[str] = (),  # models that judge the texts, too: a jury
    ) -> None:
        chrf_scorer()  # fails before a run of hours, not after it, as does the next
        for judge in judges:
            resolve_judge(judge, writer.settings, writer.environment)
        settings, own = writer.settings, writer.settings.own_prompts or folder("prompts")
        self._writer, self._suite, self._out = writer, suite, out
        self._concurrency, self._judges = concurrency, judges
        names = models or [writer.model_name]
        folders = prompts or [own]
        versions = {real_path(path).name: path for path in folders}
        for flag, given in (("--model", names), ("--prompt", folders), ("--judge", judges)):
            if len(versions if flag == "--prompt" else set(given)) < len(given):
                raise SettingsError(f"two of {flag} have the same name: give each once, or rename a folder")
        self._cases, self._prompts = suite.select(cases), versions
        for case in self._cases:
            writer.workspace.of_house(case.house).house.form(case.brief.form)
        reviewed = f", reviewed by {settings.review_model or 'its model'}" if settings.review else ""
        self.info = plan(out, self._cases, names, versions, repeats, settings.attempts, reviewed)
        self._texts = {name: template_texts(path) for name, path in versions.items()}
        for name, path in versions.items():
            more = [(each, own) for each in JUDGE_TEMPLATES if judges]
            for each, source in [*more, *[("review", path)] * settings.review]:
                self._texts[name][f"{each}.md"] = read_text(template_path(source, each))

    async def run(self) -> EvalResults:
        """Write all cases, judge and score the texts, and return the results; raises as `write`."""
        with self:
            await self.write()
            await self.judge()
            return self.results()

    def __enter__(self) -> Self:
        """Hold the folder; raises FileError where it has another run, or another process writes it."""
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(RunFolder(self._out, self.info))
            saved = read_prompts(self._out)  # a judge's, too, that is not asked this time
            texts = {name: {**saved.get(name, {}), **new} for name, new in self._texts.items()}
            write_prompts(self._out, texts)
            bounds, spent = self._writer.budget, run_spending(self._out, self._folder.history)
            self._budget = Budget(bounds.amount, bounds.tokens, spent=spent)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def rows(self) -> list[Row]:
        """The rows that are done, failed ones included."""
        return list(self._folder.rows.values())

    async def write(self, done: Callable[[Row], None] = lambda _: None) -> None:
        """Write what is missing or failed, and give each row to `done`; raises InputError and ModelError."""
        finished = {key for key, row in self._folder.rows.items() if row.outcome != "failed"}
        due: dict[tuple[str, str, Path | None], list[tuple[Key, Case]]] = {}
        matrix = product(self.info.models, self._prompts, range(self.info.repeats), self._cases)
        for model, prompt, repeat, case in matrix:
            if (key := Key(case.id, model, prompt, repeat)) not in finished:
                due.setdefault((model, prompt, case.house), []).append((key, case))
        for (model, prompt, house), items in due.items():
            changes = {"model": model, "prompts": self._prompts[prompt], **of_house(house)}
            async with self._writer.variant("eval", self._budget, **changes) as writer:

                async def write_row(item: tuple[Key, Case], writer: Writer = writer) -> None:
                    row = await _write_row(writer, *item)
                    self._folder.add(row)
                    done(row)

                await run_concurrently(iter(items), write_row, 1 if writer.is_local else self._concurrency)

    async def judge(self, votes: int = 1) -> None:
        """Have each judge judge the texts that it has not judged yet so often; raises as `write`."""
        settings, environment, jury = self._writer.settings, self._writer.environment, []
        for model in self._judges:
            async with open_judge(model, settings, environment, self._budget) as judge:
                jury.append(judge.id)
                try:
                    rows, concurrency = self.rows, self._concurrency
                    await judge_rows(self._out, rows, self._suite, judge, votes=votes, concurrency=concurrency)
                finally:
                    name = f"judge {model}" if len(self._judges) > 1 else "judge"
                    _log.info("%s: %s", name, bill(judge.answers))
        if jury:
            name_jury(self._out, jury)

    def results(self) -> EvalResults:
        """Return all rows, scored and summarised; raises InputError."""
        return open_results(self._out, self._suite, self._writer.workspace)


async def _write_row(writer: Writer, key: Key, case: Case) -> Row:
    """Return the row of a case; raises ModelError where that would meet every other row, too."""
    try:
        excluded = same_story(case, writer.workspace)
        result = await writer.write(case.brief, seed=case.id, sample=key.repeat, exclude=excluded)
    except (ModelError, BriefError) as error:  # of the brief: no demo draft has such a form
        failure = error if isinstance(error, ModelError) else RequestRefusedError(str(error), is_transient=True)
        result = Result(case.brief, generic_show(case.brief.show), (), None, failure, run=failure.run)
    if result.error is not None and not result.error.is_transient:
        raise result.error
    return Row.of(key, result)


def same_story(case: Case, workspace: Workspace) -> frozenset[str]:
    """Return the ids of examples of the case's story: named, or of its theme, title, very words, or a guest."""
    show, reference = find_show(workspace.pool.shows, case.brief.show), case.reference
    cast = name_forms(member.name for member in show.cast) if show else frozenset()

    def guests(synopsis: Synopsis) -> frozenset[str]:
        people = (name_forms([person.name]) for person in synopsis.characters)
        return frozenset().union(*(names for names in people if not names & cast)) - TITLES - ADDRESSES

    ids = set(case.same_story) | {
        example.id
        for example in workspace.pool.examples
        if example.brief.theme == case.brief.theme
        or example.synopsis.title == reference.title
        or (example.brief.show == case.brief.show and guests(example.synopsis) & guests(reference))
    }
    if workspace.gate.sources is not None:
        names = name_forms(person.name for person in reference.characters)
        matches = workspace.gate.sources.matches(analyse(reference.text), names)
        ids |= {match.source for match in matches if match.words >= COPIED_RUN}
    return frozenset(ids)
