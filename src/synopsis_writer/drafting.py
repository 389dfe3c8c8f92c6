"""Draft, check, repair: from a brief to an accepted synopsis or its refusal, and the same for an outline."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from synopsis_writer.brief import Brief
from synopsis_writer.document import read_fields
from synopsis_writer.errors import ExampleError, GateRefusedError, ModelError, RequestRefusedError
from synopsis_writer.gate import fixes
from synopsis_writer.gate.finding import Finding
from synopsis_writer.log import Recording
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.prompts.templates import Prompt, Prompts
from synopsis_writer.result import NO_STRUCTURE, Attempt, Result
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Outline, Synopsis, parse, parse_parts, wire_schema, wire_schemas

_log = logging.getLogger(__name__)
_Shape = TypeVar("_Shape", bound=BaseModel)
Shape = type[BaseModel]
Findings = tuple[Finding, ...]
Examine = Callable[..., Findings | Awaitable[Findings]]  # as `Gate.examine`, here or in another process
Find = Callable[[Synopsis, Show, Brief], Findings]  # finds what the gate does not look for
_MOST_QUOTED = 200  # characters of a refusal
_LONGER = 2  # how many times the tokens an answer may have that was cut before
_LONGEST = 8  # how many times those of the settings


class Author(Protocol):
    """Drafts answers to one brief: a model with a prompt, or the demo's scaffold."""

    name: str  # of the model

    def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:
        """Draft attempt `number`, or repair `previous`, as `seed` has it; if truncated, once more."""


class ModelAuthor:
    """Asks a model with a few-shot prompt; one that spent all tokens on thoughts gets more the next time."""

    def __init__(
        self, client: ModelClient, prompts: Prompts, prompt: Prompt, limits: Limits, shape: Shape = Synopsis
    ) -> None:
        self.name, self.client, self.prompt = client.name, client, prompt
        self.part: Attempt | None = None  # a first draft taken from an answer with several texts
        self._prompts, self._shape = prompts, shape
        self._limits = replace(limits, stable=prompt.stable)
        self._max_tokens = limits.max_tokens

    async def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:
        """Ask with the base prompt, or with the previous answer and its problems; once more if truncated."""
        if (part := self.part) is not None:
            self.part = None
            yield part
            if read_answer(part, self._shape)[0] is not None:
                return
        messages = tuple(repair_messages(self._prompts, self.prompt, previous))
        asked = replace(self._limits, max_tokens=self._max_tokens, sample=self._limits.sample + seed)
        usual = self._limits.max_tokens
        for limits in (asked, longer(asked)):
            try:
                answer = await self.client.complete(messages, wire_schema(self._shape), limits)
            except RequestRefusedError:
                if limits.max_tokens == usual:
                    raise
                self._max_tokens = usual
                return  # the server gives no longer answers: the repair asks for a shorter one
            if answer.is_spent_on_thinking:
                self._max_tokens = max(self._max_tokens, min(limits.max_tokens * _LONGER, usual * _LONGEST))
            yield Attempt(number, answer, messages, limits.sample, is_longer=limits is not asked, max_tokens=usual)
            if not answer.is_truncated:
                return

    async def plan(self, attempts: int, recorder: Recording) -> Outline:
        """Ask for an outline, at most `attempts` times; raises GateRefusedError for none, and ModelError."""
        previous: Attempt | None = None
        problem = ""
        for number in range(1, attempts + 1):
            _log.info("attempt %d of %d: asking %s for an outline", number, attempts, self.name)
            async for drafted in self.drafts(number, number - 1, previous):
                outline, problem = read_answer(drafted, Outline)
                previous = replace(drafted, problem=problem)
                recorder.answered(previous)
                if outline is not None:
                    return outline
            _log.info("attempt %d of %d: refused; %s", number, attempts, problem)
        raise GateRefusedError(f"no answer had the structure of an outline: {problem}")

    async def parts(self, names: Sequence[str]) -> dict[str, Attempt]:
        """Ask for several texts in one answer, whose cost they share; for none where the server refuses."""
        _log.info("asking %s for %d lengths in one answer", self.name, len(names))
        messages, limits = self.prompt.messages, self._limits
        try:
            answer = await self.client.complete(messages, wire_schemas(names), limits)
        except RequestRefusedError as error:
            _log.info("asking for one length after the other: %s", error)
            return {}
        texts, count = parse_parts(answer.content, names), len(names)
        texts = texts or {names[0]: answer.text}  # even an unreadable answer was paid for
        costs = answer.cost.shares(count) if answer.cost is not None else [None] * count
        parts, seconds = {}, answer.seconds / count
        for name, usage, cost in zip(names, answer.usage.shares(count), costs, strict=True):
            part = replace(answer, text=texts.get(name, ""), usage=usage, cost=cost, seconds=seconds)
            parts[name] = Attempt(1, part, messages, limits.sample, max_tokens=limits.max_tokens)
        return parts


def repair_messages(prompts: Prompts, prompt: Prompt, previous: Attempt | None) -> Sequence[Message]:
    """Return messages that quote an answer and its problems; the prompt's own where there was none."""
    if previous is None or withheld_because(previous.answer) or not previous.answer.content.strip():
        return prompt.messages
    return prompts.repair(prompt, previous.answer.content, previous.repairs)


def longer(limits: Limits) -> Limits:
    """Return the limits for an answer that was cut."""
    return replace(limits, max_tokens=limits.max_tokens * _LONGER)


async def write(
    author: Author, judge: "Judge", recorder: Recording, *,
    attempts: int = 3, best_of: int = 1, previous: Attempt | None = None,
) -> Result:  # fmt: skip
    """Draft, fix, check, and repair until the gate accepts; raises ModelError where there was no answer."""
    made, best = list[Attempt](), previous
    begun = previous.number if previous is not None else 0

    async def draft(number: int, seed: int) -> None:
        async for drafted in author.drafts(number, seed, best):
            recorder.answered(drafted)
            try:
                made.append(await judge(drafted))
            except ModelError as error:  # gates in other processes may be killed; the answer was paid for
                made.append(replace(drafted, problem=str(error)))
                raise
            recorder.judged(drafted, made[-1])

    for number in range(begun + 1, attempts + 1):
        round_ = (number, attempts)
        _log.info("attempt %d of %d: asking %s", *round_, author.name)
        first = begun + len(made)
        drafts = (draft(number, first + index) for index in range(best_of if number == 1 else 1))
        ends = await asyncio.gather(*drafts, return_exceptions=True)
        errors = _errors(ends, recorder)
        if not made:
            raise errors[0]
        best = min(  # the newest of several
            reversed(made), key=lambda each: (each.synopsis is None, len(each.problems), len(each.warnings))
        )
        for reason in dict.fromkeys(map(str, errors)):
            _log.info("attempt %d of %d: a draft failed: %s", *round_, reason)
        if best.passed:
            warned = " ".join(best.warnings)
            outcome = "accepted, with warnings; %s" if warned else "accepted%s"
            _log.info(f"attempt %d of %d: {outcome}", *round_, warned)
            break
        if len(errors) == len(ends):
            return Result(judge.brief, judge.show, tuple(made), best, errors[0])
        _log.info("attempt %d of %d: refused; %s", *round_, " ".join(best.problems))
    return Result(judge.brief, judge.show, tuple(made), best)


def _errors(ends: Sequence[BaseException | None], recorder: Recording) -> list[ModelError]:
    """Record and return a model's errors; raise any other: a bug, or Ctrl-C."""
    errors: list[ModelError] = []
    for end in ends:
        if isinstance(end, ModelError):
            recorder.failed(end)
            errors.append(end)
        elif end is not None:
            raise end
    return errors


class Judge:
    """Reads answers to a brief, fixes what code can fix, except names, and has the text examined."""

    is_ordered = True  # the texts are written for the brief

    def __init__(
        self, brief: Brief, show: Show, examine: Examine, marks: str = "„“", finders: Sequence[Find] = (),
        story: Synopsis | None = None,  # told in another length: its title and logline stay
    ) -> None:  # fmt: skip
        self.brief, self.show, self._examine, self._marks = brief, show, examine, marks
        self._finders, self._story = finders, story
        given = (show.name, *(member.name for member in show.cast), *map(str, brief.as_data().values()))
        self._given = [words for words in given if "'" in words]  # no others are fixed
        self._fixes: dict[str, tuple[fixes.Fix, ...]] = {}  # by the fixed text

    async def __call__(self, attempt: Attempt) -> Attempt:
        """Return an attempt with what its answer holds, and what is found in it."""
        synopsis, problem = read_answer(attempt, Synopsis, self.fix)
        return replace(attempt, problem=problem) if synopsis is None else await self.examine(synopsis, attempt)

    def fix(self, text: str) -> str:
        """Return a text with its faults fixed."""
        new, made = fixes.fix(text, self._marks, self._given)
        self._fixes[" ".join(new.split())] = made
        return new

    async def examine(self, synopsis: Synopsis, attempt: Attempt, *, is_whole: bool = True) -> Attempt:
        """Return an attempt with a synopsis and its findings; what is not all the model's is not fixed."""
        texts = (synopsis.title, synopsis.logline, *(part.text for part in synopsis.paragraphs))
        made = [each for text in texts for each in self._fixes.get(text, ())]
        if (story := self._story) is not None:
            synopsis = synopsis.model_copy(update={"title": story.title, "logline": story.logline})
        findings = await self._find(synopsis, attempt)
        more = {each for finding in findings for each in finding.fixes} if is_whole else set()
        if more:
            synopsis = synopsis.with_text(fixes.apply_fixes(synopsis.text, more))
            findings = await self._find(synopsis, attempt)
        kinds = fixes.counted([*made, *sorted(more)])
        if kinds:
            _log.info("attempt %d: fixed %s", attempt.number, fixes.listed(kinds))
        return replace(attempt, synopsis=synopsis, problem="", findings=findings, fixed=kinds)

    async def _find(self, synopsis: Synopsis, attempt: Attempt) -> Findings:
        asked = {"truncated": attempt.answer.is_truncated, "is_ordered": self.is_ordered and self._story is None}
        found = self._examine(synopsis, self.brief, self.show, **asked, story=self._story)
        findings = found if isinstance(found, tuple) else await found
        return sum((find(synopsis, self.show, self.brief) for find in self._finders), findings)


def read_answer(
    attempt: Attempt, shape: type[_Shape], put_right: Callable[[str], str] | None = None
) -> tuple[_Shape | None, str]:
    """Return the answer read into `shape`, or None and the reason."""
    answer = attempt.answer
    if withheld := withheld_because(answer):
        return None, withheld
    if answer.is_spent_on_thinking:
        now = f" (now {attempt.max_tokens})" if attempt.max_tokens else ""
        tokens = f"its {answer.usage.completion_tokens}" if answer.usage.completion_tokens else "all its"
        return None, f"the model spent {tokens} tokens on thinking: raise max_tokens{now}"
    parsed = parse(answer.content, shape, put_right)
    return parsed.value, "" if parsed.value is not None else f"{NO_STRUCTURE}: {parsed.problem}"


def withheld_because(answer: Answer) -> str:
    """Return why an answer is a refusal, or was filtered by the server; empty where it is an answer."""
    if answer.finish == "refusal":
        return f"the model refused: {' '.join(answer.text.split())[:_MOST_QUOTED]}"
    return "the server's content filter withheld the answer" if answer.finish == "filter" else ""


class _OutlineFile(Outline):
    brief: Brief


def load_outline(path: Path) -> tuple[Brief, Outline]:
    """Read an outline file; raises ExampleError where a field is wrong, and FileError."""
    planned = read_fields(path, _OutlineFile, ExampleError)
    return planned.brief, Outline.model_validate(planned.model_dump(exclude={"brief"}))
