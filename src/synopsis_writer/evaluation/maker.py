"""Making one row: a case's brief is written once, and all that was answered is taken down."""

from collections.abc import Callable
from dataclasses import dataclass

from synopsis_writer.authors import Authors
from synopsis_writer.desk import Desk
from synopsis_writer.errors import ModelError
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.row import Attempt, Key, Row
from synopsis_writer.examples import Example
from synopsis_writer.journal import Journal
from synopsis_writer.kinds import Outcome
from synopsis_writer.runlog import Run, RunLog
from synopsis_writer.shows import find_show
from synopsis_writer.store import new_origin
from synopsis_writer.style.copies import name_words
from synopsis_writer.style.gate import failures
from synopsis_writer.style.originality import COPIED_RUN
from synopsis_writer.style.text import analyse
from synopsis_writer.writer import Attempt as Made
from synopsis_writer.writer import Result, write

_TITLES = frozenset({"dr", "prof", "professor", "frau", "herr"})


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
        names = name_words(person.name for person in reference.characters)
        found = desk.gate.sources.matches(analyse(reference.text), names)
        told |= {match.source for match in found if match.words >= COPIED_RUN}
    return frozenset(told)


def _guests(text: Case | Example, desk: Desk) -> frozenset[str]:
    """Return the single names of the people who are not of the show's cast."""
    synopsis = text.reference if isinstance(text, Case) else text.synopsis
    show = find_show(desk.pool.shows, text.brief.show)
    cast = name_words(member.name for member in show.cast) if show else frozenset()
    people = (name_words([person.name]) for person in synopsis.characters)
    return frozenset().union(*(names for names in people if not names & cast)) - _TITLES


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
        origin = new_origin(prompt)
        run = Run(
            origin.run,
            "eval",
            origin.created,
            case.brief,
            author.name,
            server=self.server,
            rounds=self.attempts,
            prompt=prompt.name if prompt else None,
            version=prompt.version if prompt else None,
            prompt_hash=prompt.hash if prompt else None,
            examples=prompt.example_ids if prompt else (),
        )
        created = origin.created.isoformat()
        with Journal(self.log, run, self.say) as journal:
            try:
                result = await write(
                    brief, show, author, self.desk.gate, attempts=self.attempts, notes=journal
                )
            except ModelError as error:
                if error.is_final:
                    raise
                journal.end(Outcome.FAILED, str(error))
                lost = Row(**key._asdict(), outcome="failed", attempts=(), best=None, error=str(error))
                return lost.model_copy(update={"created": created, "run": run.id})
            row = row_of(key, result).model_copy(update={"created": created, "run": run.id})
            outcomes = {"accepted": Outcome.DONE, "refused": Outcome.REFUSED, "failed": Outcome.FAILED}
            journal.end(outcomes[row.outcome], row.error)
        if result.error is not None and result.error.is_final:
            raise result.error
        return row


def row_of(key: Key, result: Result) -> Row:
    """Return the row of a result."""
    usage, cost, best = result.usage, result.cost, result.best
    outcome = "accepted" if result.accepted else "failed" if result.error else "refused"
    answer = best.answer if best else None
    return Row.model_validate(
        {
            **key._asdict(),
            "outcome": outcome,
            "attempts": [_attempt(made) for made in result.attempts],
            "best": result.attempts.index(best) if best else None,
            "error": str(result.error) if result.error else None,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "amount": cost.amount if cost else None,
            "currency": cost.currency if cost else "",
            "seconds": result.seconds,
            "answered": answer.model if answer else "",
            "kept": sum(made.answer.is_kept for made in result.attempts),
            "words_by_model": answer.words_by_model if answer else None,
        }
    )


def _attempt(made: Made) -> Attempt:
    refused = failures(made.findings)
    return Attempt(
        number=made.number,
        passed=made.passed,
        problems=made.problems,
        checks=tuple(finding.check for finding in refused) if made.synopsis else ("structure",),
        spans=tuple((span.start, span.end) for finding in refused for span in finding.spans),
        answer=made.answer.text,
        synopsis=made.synopsis,
    )
