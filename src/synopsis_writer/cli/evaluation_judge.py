"""`synopsis eval judge-check`: a judge is measured on references and the same texts spoilt."""

import os
from pathlib import Path
from typing import Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import give, say, say_nothing
from synopsis_writer.cli.evaluation_run import CASES, CONCURRENCY, check_names, loaded_suite

_EVERY = 10  # pairs between two lines of progress


def judge_check(
    judge: Annotated[str, typer.Option("--judge", metavar="MODEL", help="The judge to try.")],
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Whose references are spoilt.  [default: evals/suite.yaml]")
    ] = None,
    cases: CASES = None,
    concurrency: CONCURRENCY = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the damages.")] = 0,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    budget: options.Budget = None,
    max_tokens_total: options.MaxTokensTotal = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure a judge: how often it prefers a reference to the same text spoilt, in both orders.

    What was found and what it took are printed after a fault, too.
    """
    import asyncio

    from synopsis_writer.client.bill import bill
    from synopsis_writer.evaluation.damage import KINDS
    from synopsis_writer.evaluation.judge_check import Tally, by_kind, check, table
    from synopsis_writer.evaluation.judging import open_judge
    from synopsis_writer.settings import load_settings

    check_names({"--judge": [judge]})
    settings = load_settings(
        {
            "base_url": base_url,
            "insecure": insecure,
            "budget": budget,
            "max_tokens_total": max_tokens_total,
        }
    )
    chosen = loaded_suite(suite).select(cases or [])
    status = say_nothing if quiet else say

    found: list[Tally] = []

    def count(done: int, most: int) -> None:
        if done % _EVERY == 0:
            status(f"compared {done} of {most} pairs")

    async def measure() -> None:
        async with open_judge(judge, settings, os.environ, status) as asked:
            try:
                await check(asked, chosen, KINDS, seed, concurrency=concurrency, done=count, found=found)
            finally:
                if found:
                    give(table(by_kind(KINDS, found)))
                status(bill(asked.answers))

    asyncio.run(measure())
