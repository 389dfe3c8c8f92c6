"""A judge's answers, which quote the text that they are about."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.support.loopback import LoopbackServer, Reply, Request, Step

QUOTE = "QUOTE"  # stands in reasons for words of the text that is judged


def reply(better: str) -> Reply:
    """Return the answer to a pair."""
    return Reply(json.dumps({"reasons": f"„{QUOTE}“ trägt.", "better": better}, ensure_ascii=False))


def scores(items: int, **changes: Any) -> Reply:
    """Return the answer to a text with so many facts."""
    told = [{"number": number, "said": True} for number in range(1, items + 1)]
    fields = {"facts": told, "coherence": 5, "theme": 4, "style": 4, "language": 5}
    reasons = f"„{QUOTE}“: Der Text hält."
    return Reply(json.dumps({"reasons": reasons, **fields, **changes}, ensure_ascii=False))


def quoted_from(asked: Sequence[Any]) -> str:
    """Return the first words of the last text that a judge was shown, as its messages hold it."""
    paragraph = re.findall(r'"Absätze": \[\s*"(.*?)"\s*[,\]]\n', asked[-1]["content"] + "\n")[-1]
    return " ".join(re.findall(r"\w+", paragraph)[:4])


class JudgeServer(LoopbackServer):
    """Plays its steps; where an answer has QUOTE, words of the judged text take its place."""

    def answer(self, request: Request) -> Step:
        """Record a request, and return what it gets."""
        step = super().answer(request)
        if isinstance(step, Reply) and QUOTE in step.text:
            return replace(step, text=step.text.replace(QUOTE, quoted_from(request.body["messages"])))
        return step
