"""What a provider tells of its files and batches."""

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from synopsis_writer.client.retry import BrokenBody

_Shape = TypeVar("_Shape", bound=BaseModel)


_LAST_SECOND = 253_402_300_799  # of the year 9999: what is more has another unit


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


_Maybe = WrapValidator(_or_none)  # None where it is none of its kind: what nobody needs makes nothing fail


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Problem(_Answer):
    code: Annotated[str | None, _Maybe] = None
    message: Annotated[str | None, _Maybe] = None
    line: Annotated[int | None, _Maybe] = None


class _Problems(_Answer):
    data: list[Annotated[_Problem | None, _Maybe]] | None = None


class _Counts(_Answer):
    total: Annotated[int | None, _Maybe] = None
    completed: Annotated[int | None, _Maybe] = None
    failed: Annotated[int | None, _Maybe] = None


class RemoteBatch(_Answer):
    """A batch, as the provider tells of it; `errors` are those of its check before it begins."""

    id: str
    status: str
    input_file_id: Annotated[str | None, _Maybe] = None
    output_file_id: Annotated[str | None, _Maybe] = None
    error_file_id: Annotated[str | None, _Maybe] = None
    errors: Annotated[_Problems | None, _Maybe] = None
    request_counts: Annotated[_Counts | None, _Maybe] = None
    metadata: Annotated[dict[str, Any] | None, _Maybe] = None
    expires_at: Annotated[Annotated[float, Field(ge=0, le=_LAST_SECOND)] | None, _Maybe] = None

    @property
    def is_open(self) -> bool:
        """Whether the provider is still at it; a word that nobody knows is taken for that."""
        return self.status not in {"completed", "failed", "expired", "cancelled"}

    @property
    def problems(self) -> list[tuple[int | None, str, str]]:
        """What the check found: line (from 1), code and message of each."""
        found = self.errors.data if self.errors and self.errors.data else []
        return [
            (one.line, one.code or "", " ".join((one.message or one.code or "").split()))
            for one in found
            if one is not None
        ]

    @property
    def done(self) -> int:
        """Requests that were answered, as it counts them; 0 where it does not say."""
        counts = self.request_counts
        if counts is None or not counts.completed:
            return 0
        # Some count those that failed as completed, too.
        return (
            min(counts.completed, counts.total - (counts.failed or 0)) if counts.total else counts.completed
        )

    @property
    def failed(self) -> int:
        """Requests that have failed, as it counts them."""
        return (self.request_counts.failed or 0) if self.request_counts else 0


class RemoteBatches(_Answer):
    """A page of the list of batches; None for what is no batch as we know them."""

    data: list[Annotated[RemoteBatch | None, _Maybe]]
    has_more: Annotated[bool | None, _Maybe] = False


class RemoteFile(_Answer):
    """A file; its size where the provider tells it."""

    id: str
    bytes: Annotated[int | None, _Maybe] = None


def read_remote(shape: type[_Shape], body: bytes) -> _Shape:
    """Return what a body holds; raises BrokenBody where it is none of these."""
    try:
        return shape.model_validate_json(body)
    except ValidationError:
        raise BrokenBody("the answer is none of a batch interface", passing=True) from None
