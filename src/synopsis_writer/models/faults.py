"""What a server reports in place of an answer: its words, and what they mean."""

import contextlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from synopsis_writer.document import read_toml

Meaning = Literal["quota", "cut", "bad_json", "too_long", "filter", "other"]

_LONGEST_MESSAGE = 200  # characters of a server's words in our messages
_MOST_SEARCHED = 20_000  # characters of a body that are searched: no server says more with a reason
_DEEPEST = 6  # levels of errors in errors

SERVERS: Mapping[str, Any] = read_toml(Path(__file__).with_name("data") / "servers.toml")
_MEANINGS: Mapping[Meaning, str] = {name: "|".join(words) for name, words in SERVERS["meanings"].items()}
# With these statuses the words above are about the key, the account or the pace.
_NOT_OF_THE_PROMPT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True)
class Report:
    """What a server reports of a request that it did not answer."""

    status: int = 0  # of HTTP, or the code of an error that came with status 200
    text: str = ""  # all that it says, for searching
    message: str = ""  # in one line without unprintable characters; it may quote the key
    parameter: str = ""  # the field of the request that it names
    generated: str = ""  # the text of a model that did not write by the schema
    meaning: Meaning = "other"


NO_REPORT = Report()


def read_report(status: int, body: object) -> Report:
    """Return what the body of an error says; it may be anything."""
    details = body
    for _ in range(_DEEPEST):
        if isinstance(details, list) and details:
            details = details[0]  # Gemini's
        elif isinstance(details, dict) and isinstance(details.get("error"), dict | list):
            details = details["error"]
    details = details if isinstance(details, dict) else {}
    try:
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = ""
    text = text[:_MOST_SEARCHED]
    parameter, generated = details.get("param"), details.get("failed_generation")
    codes = [details.get(name) for name in ("code", "type", "status")]  # any JSON, so nothing hashable
    is_quota = status == HTTPStatus.PAYMENT_REQUIRED or "insufficient_quota" in codes
    return Report(
        status,
        text,
        "".join(filter(str.isprintable, " ".join(_words(body).split()))),
        parameter if isinstance(parameter, str) else "",
        generated if isinstance(generated, str) else json.dumps(generated) if generated else "",
        "quota" if is_quota else _meaning(status, text),
    )


def _meaning(status: int, text: str) -> Meaning:
    if status in _NOT_OF_THE_PROMPT:
        return "other"
    flags = re.IGNORECASE | re.DOTALL
    text = re.sub(r"\\*\"(error|message|msg|detail)\\*\"\s*:", " ", text)  # names of fields, not words
    return next((name for name, pattern in _MEANINGS.items() if re.search(pattern, text, flags)), "other")


def _words(body: object, depth: int = 0) -> str:
    if depth > _DEEPEST:
        return ""
    if isinstance(body, str):
        text = body.strip()[:_MOST_SEARCHED]
        if text.startswith(("{", "[")):  # an upstream's error, passed on as text
            with contextlib.suppress(ValueError, RecursionError):
                return _words(json.loads(text), depth + 1) or text
        title = re.search(r"<(title|h1)[^>]*>(.*?)</\1", text, re.IGNORECASE | re.DOTALL)
        return html.unescape(title[2] if title else re.sub(r"<[^>]{1,200}>", " ", text))
    if isinstance(body, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in body[:3])))
    if not isinstance(body, dict):
        return ""
    body = {str(name).lower(): value for name, value in body.items()}
    words = next(filter(None, (_words(body.get(name), depth + 1) for name in SERVERS["words"]["names"])), "")
    if words and isinstance(field := body.get("loc"), list):  # FastAPI's
        words = f"{'.'.join(map(str, field))}: {words}"
    metadata = body.get("metadata")
    raw = _words(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""  # OpenRouter's
    return ": ".join(filter(None, (words, raw)))


_SHORTEST_SECRET = 8  # characters: runs of a key that are cut out wherever they stand
_MASKED = re.compile(r"\S*(\*{3}|[\w…]\.{3}\w)\S*|\b(sk|pk|gsk|xai)-[\w-]{6,}")


def quote(message: str, secrets: Iterable[str] = ()) -> str:
    """Return the beginning of a server's message, without `secrets`."""
    text, hidden = message[:_MOST_SEARCHED], set[int]()
    for secret in filter(None, secrets):
        size = min(len(secret), _SHORTEST_SECRET)
        runs = "|".join({re.escape(secret[at : at + size]) for at in range(len(secret) - size + 1)})
        pattern = rf"(?=({runs}))" if size == _SHORTEST_SECRET else rf"(?<!\w)({runs})(?!\w)"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            hidden.update(range(*match.span(1)))
    text = re.sub("\0+", "…", "".join("\0" if at in hidden else char for at, char in enumerate(text)))
    text = _MASKED.sub("…", text[: 4 * _LONGEST_MESSAGE])  # all of it would take quadratic time
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
