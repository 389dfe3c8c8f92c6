"""Results: each line of a provider's files is joined to its row, judged like any answer, and saved once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Done
from synopsis_writer.batch.maker import outcome
from synopsis_writer.batch.provider.lines import Result as Line
from synopsis_writer.batch.provider.lines import read_lines, read_result
from synopsis_writer.batch.provider.returns import Returns
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Asked, Flaw, Shard
from synopsis_writer.batch.saving import Saver
from synopsis_writer.client import NO_COST, Answer, Usage
from synopsis_writer.client.completion import read_answer
from synopsis_writer.client.pricing import Pricer
from synopsis_writer.client.retry import BrokenBody
from synopsis_writer.desk import Desk
from synopsis_writer.workers import side_by_side
from synopsis_writer.writer import Draft, Examiner, Result, judge, withheld_because

_MOST_SAID = 5  # lines that say nothing


_Joined = tuple[Shard, BatchRow, Asked, Line]


@dataclass(frozen=True)
class Reader:
    """Reads the files of results.

    Attributes:
        shards: the record's shards.
        saver: judges what rows come to, and saves it.
        returns: takes rows without an answer back.
        desk: pool, templates and shows.
        gate: what a text must pass.
        pricer: what tokens cost at the provider.
        model: the model that was asked.
        say: is told of lines that belong to no row.
    """

    shards: Shards
    saver: Saver
    returns: Returns
    desk: Desk
    gate: Examiner
    pricer: Pricer
    model: str
    say: Callable[[str], None]

    async def read(
        self, paths: Sequence[Path], known: Mapping[str, Shard], concurrency: int
    ) -> Mapping[int, int]:
        """Save the rows of files; return how many answers they hold of each shard, by its number.

        What was saved before is counted and left alone. A shard that only lines without answers are of has 0.

        Args:
            paths: the files of results.
            known: the open shards by their keys.
            concurrency: texts that are checked at once.

        Raises:
            FileError: file or record cannot be read or written.
        """
        answers: Counter[int] = Counter()

        async def take(found: _Joined) -> None:
            await self._take(*found)

        await side_by_side(self._joined(paths, known, answers), take, concurrency)
        return answers

    def _joined(
        self, paths: Sequence[Path], known: Mapping[str, Shard], answers: Counter[int]
    ) -> Iterator[_Joined]:
        """Yield each line with its row, once; a line that passes only where no other follows for its row."""
        seen: set[tuple[int, int]] = set()
        passing: dict[tuple[int, int], Line] = {}
        for path in paths:
            strange = 0
            for number, content in enumerate(read_lines(path), 1):
                found = self._find(read_result(content), known, seen)
                if isinstance(found, str):
                    strange += 1
                    if strange <= _MOST_SAID:
                        self.say(f"{path.name}: line {number} is ignored: {found}")
                    continue
                (shard, _, asked, line), is_read = found
                answers[shard.number] += line.body is not None
                if line.passes:
                    passing[shard.number, asked.place] = line
                    continue
                seen.add((shard.number, asked.place))
                if not is_read:  # else it was saved before a kill
                    yield found[0]
            if strange > _MOST_SAID:
                self.say(f"{path.name}: {strange} lines in all belong to no row, or to one that was read")
        for line in passing.values():
            found = self._find(line, known, seen)
            if not isinstance(found, str) and not found[1]:
                yield found[0]

    def _find(
        self, line: Line | str, known: Mapping[str, Shard], seen: AbstractSet[tuple[int, int]]
    ) -> tuple[_Joined, bool] | str:
        """Return a line with its row, and whether that was read already; or why it belongs to none."""
        if isinstance(line, str):
            return line
        shard = known.get(line.key)
        found = self.shards.find(shard, line.place) if shard else None
        if shard is None or found is None or found[1].round != line.round:
            return f"unknown request id '{line.key}-{line.place}-{line.round}'"
        row, asked, is_read = found
        if (shard.number, line.place) in seen:
            return f"a second result for row {row.id}: the first one stays"
        return (shard, row, asked, line), is_read

    async def _take(self, shard: Shard, row: BatchRow, asked: Asked, line: Line) -> None:
        if line.body is None:
            self._without_answer(shard, row, asked, line)
            return
        try:
            answer = read_answer(line.body, "application/json", 0.0, self.model)
        except BrokenBody as fault:
            self._broken(shard, row, asked, fault)
            return
        answer = replace(answer, cost=self.pricer.cost(answer.usage, answer.model))
        done = await self._judged(row, asked, answer)
        record = self.returns.record
        with record.together():
            self.shards.mark_read(shard, asked)
            last = self.saver.save(row, done)
            if last is not None:
                self.shards.wait(Asked(asked.place, last.number + 1, _flaw(answer)))

    async def _judged(self, row: BatchRow, asked: Asked, answer: Answer) -> Done:
        show = self.desk.find_show(row.brief.show)
        brief = row.brief.model_copy(update={"show": show.name})
        attempt = await judge(asked.round, Draft(answer), brief, show, self.gate)
        prompt = self.desk.synopsis_prompt(brief, show)
        return outcome(row.id, Result(brief, show, (attempt,), attempt), prompt)

    def _without_answer(self, shard: Shard, row: BatchRow, asked: Asked, line: Line) -> None:
        with self.returns.record.together():
            self.shards.mark_read(shard, asked)
            if line.passes:
                self.returns.take(row, asked, line.reason)
            else:
                self.returns.fail(row, line.reason)

    def _broken(self, shard: Shard, row: BatchRow, asked: Asked, fault: BrokenBody) -> None:
        """Save the tokens of what is no answer: they are paid."""
        usage = fault.usage
        done = Done(
            row.id,
            "failed",
            str(fault),
            usage=usage,
            cost=self.pricer.cost(usage) if usage != Usage() else NO_COST,
        )
        with self.returns.record.together():
            self.shards.mark_read(shard, asked)
            self.returns.record.save(done)
            if fault.passing:
                self.returns.take(row, asked, str(fault))
            else:
                self.returns.made(done, True)


def _flaw(answer: Answer) -> Flaw:
    return "withheld" if withheld_because(answer) else "cut" if answer.finish == "length" else ""
