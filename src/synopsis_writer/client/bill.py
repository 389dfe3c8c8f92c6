"""What answers took: tokens, seconds and cost, in one line for people and as data for files."""

from collections.abc import Sequence
from typing import Any

from synopsis_writer.client import Answer, Cost, Usage, total_cost
from synopsis_writer.client.pricing import format_cost


def bill(answers: Sequence[Answer]) -> str:
    """Say what answers took: their number, tokens, seconds and cost; refused ones count, too."""
    usage = sum((answer.usage for answer in answers), Usage())
    kept = sum(answer.is_kept for answer in answers)
    return (
        f"{len(answers)} attempt{'s' if len(answers) != 1 else ''}"
        + (f" ({kept} from the cache)" if kept else "")
        + f", {usage.prompt_tokens}"
        + (f" ({usage.cached_tokens} cached)" if usage.cached_tokens else "")
        + f" + {usage.completion_tokens} tokens, {sum(answer.seconds for answer in answers):.1f} s, "
        + format_cost(total_cost(answer.cost for answer in answers))
    )


def bill_data(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what all answers took, as files and `--json` hold it."""
    return sums_data(
        len(answers),
        sum((answer.usage for answer in answers), Usage()),
        total_cost(answer.cost for answer in answers),
        sum(answer.seconds for answer in answers),
    )


def sums_data(attempts: int, usage: Usage, cost: Cost | None, seconds: float) -> dict[str, Any]:
    """Return what so many attempts took together, as files and `--json` hold it; a cost of None: unpriced."""
    return {
        "attempts": attempts,
        "usage": _usage_data(usage),
        "cost": format_cost(cost),
        "seconds": round(seconds, 1),
    }


def answer_data(answer: Answer) -> dict[str, Any]:
    """Return what one answer took."""
    return {
        **_usage_data(answer.usage),
        "cost": format_cost(answer.cost),
        "seconds": round(answer.seconds, 2),
        "from_cache": answer.is_kept,
    }


def _usage_data(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
    }
