"""The judge: a model that scores a text by a rubric, and prefers it, or not, to the case's reference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel

from synopsis_writer.client import Answer, Limits, Message, ModelClient, Usage, total_cost
from synopsis_writer.errors import TemplateError
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.judgement import (
    Judgement,
    PairAnswer,
    ScoreAnswer,
    Scores,
    Told,
    WirePreference,
    WireScores,
    read_verdict,
)
from synopsis_writer.prompts import Template, brief_block, json_block, load_template
from synopsis_writer.resources import folder as packaged
from synopsis_writer.synopsis import Synopsis

# The judge's templates, and the fields of each; a folder of prompts may have its own, or leave them out.
JUDGE_TEMPLATES: dict[str, frozenset[str]] = {
    "judge": frozenset({"brief", "facts", "text"}),
    "judge_pair": frozenset({"brief", "first", "second"}),
}
_ASKED = 2  # times one question is asked: an answer that cannot be read gets one more chance
_FIRST_BLOCK = "\n<auftrag>\n"  # what stands before it is the rubric: the system turn


def load_judge_templates(folder: Path) -> dict[str, Template]:
    """Load the judge's templates: those that `folder` has, the program's own for the others.

    Raises:
        TemplateError: one breaks its format, or has no line `<auftrag>` to part rubric and case.
    """
    own = packaged("prompts")
    paths = {name: folder / f"{name}.md" for name in JUDGE_TEMPLATES}
    templates = {
        name: load_template(path if path.is_file() else own / path.name, JUDGE_TEMPLATES[name])
        for name, path in paths.items()
    }
    for name, template in templates.items():
        if _FIRST_BLOCK not in template.source:
            raise TemplateError(
                f"{paths[name]}: no line '<auftrag>': put the rubric before it, the blocks behind it"
            )
    return templates


def checklist(case: Case) -> tuple[str, ...]:
    """Return what a text about the case should say, in the order in which the judge is given it."""
    return (*case.brief.beats, *case.facts)


@dataclass(frozen=True)
class Judge:
    """Asks a model what it thinks of texts; several texts may be judged at once.

    Attributes:
        client: the model.
        templates: `judge` and `judge_pair`.
        limits: of each call.
        answers: all answers, so that tokens and costs of unreadable ones count, too.
        unread: those of them that could not be read: refused, cut, or not in the structure asked for.
    """

    client: ModelClient
    templates: Mapping[str, Template]
    limits: Limits
    answers: list[Answer] = field(default_factory=list)
    unread: list[Answer] = field(default_factory=list)

    async def judge(self, case: Case, synopsis: Synopsis) -> Judgement:
        """Score a text, and compare it with the case's reference: three calls; raises ModelError."""
        own = replace(self, answers=[], unread=[])
        try:
            scores = await own.score(case, synopsis)
            preference = await own.prefer(case, synopsis)
        finally:
            self.answers.extend(own.answers)
            self.unread.extend(own.unread)
        return own.sum_up(scores, preference)

    async def score(self, case: Case, synopsis: Synopsis) -> Scores | None:
        """Return the scores by the rubric; None when no answer could be read; raises ModelError."""
        facts = checklist(case)
        messages = self._messages(
            "judge",
            brief=brief_block(case.brief.model_copy(update={"beats": ()})),
            facts=json_block({str(number): fact for number, fact in enumerate(facts, 1)}),
            text=text_block(synopsis),
        )

        def fits(told: ScoreAnswer) -> bool:
            return sorted(fact.number for fact in told.facts) == list(range(1, len(facts) + 1))

        told = await self._ask(messages, WireScores, ScoreAnswer, fits)
        if told is None:
            return None
        said = tuple(fact.said for fact in sorted(told.facts, key=lambda fact: fact.number))
        return Scores.model_validate({**told.model_dump(), "facts": said})

    async def prefer(self, case: Case, synopsis: Synopsis) -> float | None:
        """Compare a text with the reference, which stands first, then second.

        Returns:
            1 when the text is better in both orders, 0 when the reference is, 0.5 when the orders disagree or
            one says equal, None when an answer could not be read.

        Raises:
            ModelError: the model failed for good.
        """
        brief, reference, text = brief_block(case.brief), text_block(case.reference), text_block(synopsis)
        better: list[str] = []
        for first, second, names in (
            (reference, text, {"first": "reference", "second": "text"}),
            (text, reference, {"first": "text", "second": "reference"}),
        ):
            messages = self._messages("judge_pair", brief=brief, first=first, second=second)
            told = await self._ask(messages, WirePreference, PairAnswer, lambda _: True)
            if told is None:
                return None
            better.append(names.get(told.better, "equal"))
        if better == ["text", "text"]:
            return 1.0
        return 0.0 if better == ["reference", "reference"] else 0.5

    def sum_up(self, scores: Scores | None, preference: float | None) -> Judgement:
        """Return the judgement with what all of the judge's answers took."""
        usage = sum((answer.usage for answer in self.answers), Usage())
        cost = total_cost(answer.cost for answer in self.answers)
        return Judgement(
            scores=scores,
            preference=preference,
            model=self.answers[-1].model or self.client.name,
            prompt=", ".join(f"{one.name} {one.version} {one.hash}" for one in self.templates.values()),
            calls=len(self.answers),
            unread=len(self.unread),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            amount=None if cost is None else cost.amount,
            currency="" if cost is None else cost.currency,
        )

    def _messages(self, name: str, **blocks: str) -> tuple[Message, Message]:
        # No block holds a `<`, so the first one begins where the template says, whatever the texts say.
        rubric, line, rest = self.templates[name].render(**blocks).partition(_FIRST_BLOCK)
        return Message("system", rubric), Message("user", (line + rest).strip())

    async def _ask(
        self,
        messages: Sequence[Message],
        wire: type[BaseModel],
        shape: type[Told],
        fits: Callable[[Told], bool],
    ) -> Told | None:
        for chance in range(_ASKED):
            # Another number, or a cache would give the unreadable answer again.
            limits = replace(self.limits, repeat=self.limits.repeat + chance)
            answer = await self.client.complete(messages, wire.model_json_schema(), limits)
            self.answers.append(answer)
            told = read_verdict(answer, shape)
            if told is not None and fits(told):
                return told
            self.unread.append(answer)
        return None


def text_block(synopsis: Synopsis) -> str:
    """Return a text as the judge gets it: JSON that holds no delimiter of any kind."""
    return json_block(
        {
            "Titel": synopsis.title,
            "Logline": synopsis.logline,
            "Figuren": [f"{person.name}: {person.role}" for person in synopsis.characters],
            "Absätze": [paragraph.text for paragraph in synopsis.paragraphs],
        }
    )
