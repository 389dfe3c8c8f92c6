"""Reads what servers send for a completion or a list of models; the SDK takes any JSON for one."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from synopsis_writer.client import Answer, Finish, Usage
from synopsis_writer.client.retry import BrokenBody, status_passes

# OpenAI's `finish_reason`; any other is a stop.
FINISH: dict[Any, Finish] = {"length": "length", "content_filter": "filter"}


def whole(text: str) -> str:
    """Join and replace surrogates: a lone one can be neither sent, printed nor saved."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def joined(value: Any) -> Any:
    """Join the texts of a content in parts, its thoughts and pictures left out; return all else as it is."""
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        return value
    texts = [part.get("text") for part in value if part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _whole_text(value: Any) -> Any:
    text = joined(value)
    return whole(text) if isinstance(text, str) else text


_Text = Annotated[str, BeforeValidator(_whole_text)]


class _Message(BaseModel):
    content: _Text | None = None
    refusal: _Text | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    model: str | None = None


# Far more than any call can have; a figure past 64 bits could not be saved.
_Count = Annotated[int, Field(ge=0, le=10**12)]


class _Details(BaseModel):
    cached_tokens: _Count | None = None


class _Usage(BaseModel):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def read_answer(body: bytes, media_type: str, seconds: float, model: str) -> Answer:
    """Return the answer in the body of a completion.

    Args:
        body: the body as it came.
        media_type: the content type the server gave it.
        seconds: how long it took.
        model: the model that was asked, for servers that do not name one.

    Raises:
        BrokenBody: the body holds no answer; it carries the usage that the body has.
    """
    data = _json(body, media_type)
    usage = usage_in(data.get("usage"))
    if not data.get("choices"):
        if data.get("error"):
            raise reported(data["error"], "the server failed", usage)
        raise BrokenBody("the answer holds no choice", passing=True, usage=usage)
    completion = _read(_Completion, data, "completion", usage)
    choice = completion.choices[0]
    refusal = choice.message.refusal
    return Answer(
        text=refusal or choice.message.content or "",
        finish="refusal" if refusal else FINISH.get(choice.finish_reason, "stop"),
        usage=usage,
        seconds=seconds,
        model=completion.model or model,
    )


def read_models(body: bytes, media_type: str) -> list[str]:
    """Return the names in the body of a list of models, sorted.

    Raises:
        BrokenBody: the body holds no such list.
    """
    return sorted(model.id for model in _read(_Models, _json(body, media_type), "list of models").data)


def _json(body: bytes, media_type: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        if "json" in media_type:
            raise BrokenBody("the answer is broken JSON", passing=True) from None
        data = None
    if not isinstance(data, dict):
        raise BrokenBody("the answer is a page or text, not a completion", passing=False)
    return data


_Shape = TypeVar("_Shape", bound=BaseModel)


def _read(shape: type[_Shape], data: dict[str, Any], what: str, usage: Usage | None = None) -> _Shape:
    try:
        return shape.model_validate(data)
    except ValidationError:
        said = f"the answer has not the shape of a {what}"
        raise BrokenBody(said, passing=False, usage=usage) from None


def usage_in(data: Any) -> Usage:
    """Return the usage in what a server sends as such; one that cannot be read must not lose the text."""
    try:
        usage = _Usage.model_validate(data or {})
    except ValidationError:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)


def reported(error: Any, what: str, usage: Usage | None = None) -> BrokenBody:
    """Return the fault that a server reports in an answer, where a status is too late.

    Args:
        error: what it says under `error`.
        what: what happened, in a few words.
        usage: the tokens that it counted.
    """
    said = (error.get("code"), error.get("type"), error.get("status")) if isinstance(error, dict) else ()
    if "insufficient_quota" in said:
        return BrokenBody("the account's quota is used up", passing=False, usage=usage, is_quota=True)
    status = next((int(one) for one in said if isinstance(one, int | str) and str(one).isdecimal()), 500)
    passing = status_passes(status)
    mend = "try again later" if passing else "check model and parameters"
    return BrokenBody(what, passing=passing, mend=mend, usage=usage)
