"""An eval run: cases by models by prompts by repeats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.drafting import write
from synopsis_writer.errors import ModelError
from synopsis_writer.evals.record import Key, Row, RunFolder, RunInfo
from synopsis_writer.evals.suite import Case, case_hash
from synopsis_writer.examples import Example
from synopsis_writer.gate.copies import name_forms
from synopsis_writer.gate.lexicon import ADDRESSES, TITLES
from synopsis_writer.gate.story import COPIED_RUN
from synopsis_writer.gate.text import analyse
from synopsis_writer.log import Run, RunLog
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import resolve_model
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.result import RowResult, new_run
from synopsis_writer.settings import Settings
from synopsis_writer.show import find_show
from synopsis_writer.writer import Authors, Desk, load_desk, open_authors

Say = Callable[[str], None]


@dataclass(frozen=True)
class Matrix:
    """What is to be made.

    Attributes:
        cases: the cases.
        models: as `--model` names them.
        prompts: the prompt versions: a name and the folder of its templates.
        repeats: answers a case, model and prompt version.
        concurrency: rows made side by side; a model in this process makes one after the other.
    """

    cases: Sequence[Case]
    models: Sequence[str]
    prompts: Mapping[str, Path]
    repeats: int
    concurrency: int = 4

    def info(self, name: str, created: str, version: str, attempts: int) -> RunInfo:
        """Return what the run over this matrix is."""
        return RunInfo(
            name,
            created,
            version,
            tuple(self.models),
            {prompt: folder_hash(folder) for prompt, folder in self.prompts.items()},
            {case.id: case_hash(case) for case in self.cases},
            self.repeats,
            attempts,
        )

    def keys(self, model: str, prompt: str) -> list[tuple[Key, Case]]:
        """Return the rows of one model and prompt version: all cases once, then all of them again."""
        return [
            (Key(case.id, model, prompt, repeat), case)
            for repeat in range(self.repeats)
            for case in self.cases
        ]


async def run_matrix(
    matrix: Matrix,
    settings: Settings,
    environment: Mapping[str, str],
    folder: RunFolder,
    log: RunLog,
    *,
    say: Say,
    done: Callable[[Row], None],
    budget: Budget | None = None,
) -> None:
    """Make the rows that the folder does not hold yet, and those that failed; `done` is given each.

    `budget` is the ledger of all calls; None is one of the run's own.

    Raises:
        InputError: a model, a folder of templates, or the budget cannot be used, or the folder not written.
        ModelError: the work cannot go on: key, quota, budget or engine. What was made is kept.
    """
    if budget is None:
        budget = Budget(settings.budget, settings.max_tokens_total)
    for model in matrix.models:
        for prompt, templates in matrix.prompts.items():
            todo = [(key, case) for key, case in matrix.keys(model, prompt) if _is_due(folder.rows.get(key))]
            if not todo:
                continue
            chosen = settings.model_copy(update={"model": model, "prompts": templates})
            choice = resolve_model(chosen, environment)
            desk = load_desk(chosen, say)
            async with open_authors(choice, chosen, environment, desk, budget, say) as authors:
                maker = Maker(desk, authors, settings.attempts, choice.server, log, say)
                count = matrix.concurrency if choice.kind == "hosted" else 1
                await run_concurrently(iter(todo), partial(_add, maker, folder, done), count)


def _is_due(row: Row | None) -> bool:
    return row is None or row.outcome == "failed"


@dataclass(frozen=True)
class Maker:
    """Makes rows for one model and prompt version.

    Attributes:
        desk: pool, templates and gate.
        authors: who drafts.
        attempts: rounds at most.
        server: the model's server, for the log.
        log: where each row is noted as a run.
        say: is told when the log fails.
    """

    desk: Desk
    authors: Authors
    attempts: int
    server: str | None
    log: RunLog
    say: Callable[[str], None]

    async def make(self, key: Key, case: Case) -> Row:
        """Write the case's brief.

        Raises:
            ModelError: the work cannot go on; what another request may escape becomes a row that failed.
        """
        show = self.desk.find_show(case.brief.show, self.say)
        brief = case.brief.model_copy(update={"show": show.name})
        told = same_story(case, self.desk)
        author, prompt = self.authors(case.id, brief, show, repeat=key.repeat, without=told)
        name, made_at = new_run()
        run = Run(
            name,
            "eval",
            made_at,
            case.brief,
            author.name,
            server=self.server,
            rounds=self.attempts,
            prompt=prompt.name if prompt else None,
            version=prompt.version if prompt else None,
            prompt_hash=prompt.hash if prompt else None,
            examples=prompt.example_ids if prompt else (),
        )
        with self.log.recording(run) as recording:
            try:
                result = await write(
                    brief, show, author, self.desk.gate, attempts=self.attempts, recorder=recording
                )
                row: Row = RowResult.of(key, result)
            except ModelError as error:
                row = RowResult.failed(key, error)
            if row.error is not None:
                recording.end("failed", row.reason)
                raise row.error
            recording.end(row.outcome, row.reason if row.outcome == "failed" else None)
        provenance = {**(row.provenance or {}), "run": run.id, "created": made_at.isoformat()}
        return replace(row, provenance=provenance)


async def _add(maker: Maker, folder: RunFolder, done: Callable[[Row], None], todo: tuple[Key, Case]) -> None:
    row = await maker.make(*todo)
    folder.add(row)
    done(row)


def same_story(case: Case, desk: Desk) -> frozenset[str]:
    """Return the ids of the examples that tell the case's story.

    These are the ones it names, and those with its theme, its title, its very words, or, within the show,
    with a person who is nobody of the show's cast.
    """
    reference = case.reference
    told = set(case.same_story) | {
        example.id
        for example in desk.pool.examples
        if example.brief.theme == case.brief.theme
        or example.synopsis.title == reference.title
        or (example.brief.show == case.brief.show and _guests(example, desk) & _guests(case, desk))
    }
    if desk.gate.sources is not None:
        names = name_forms(person.name for person in reference.characters)
        found = desk.gate.sources.matches(analyse(reference.text), names)
        told |= {match.source for match in found if match.words >= COPIED_RUN}
    return frozenset(told)


def _guests(text: Case | Example, desk: Desk) -> frozenset[str]:
    """Return the single names of the people who are not of the show's cast."""
    synopsis = text.reference if isinstance(text, Case) else text.synopsis
    show = find_show(desk.pool.shows, text.brief.show)
    cast = name_forms(member.name for member in show.cast) if show else frozenset()
    people = (name_forms([person.name]) for person in synopsis.characters)
    return frozenset().union(*(names for names in people if not names & cast)) - TITLES - ADDRESSES
