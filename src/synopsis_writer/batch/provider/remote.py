"""What a provider tells of its files and batches."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from synopsis_writer.client.retry import BrokenBody

_Shape = TypeVar("_Shape", bound=BaseModel)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Problem(_Answer):
    code: str | None = None
    message: str | None = None
    line: int | None = None


class _Problems(_Answer):
    data: list[_Problem] | None = None


class _Counts(_Answer):
    total: int = 0
    completed: int = 0
    failed: int = 0


class RemoteBatch(_Answer):
    """A batch, as the provider tells of it; `errors` are those of its check before it begins."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Problems | None = None
    request_counts: _Counts | None = None
    metadata: dict[str, Any] | None = None
    expires_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the provider is still at it; a word that nobody knows is taken for that."""
        return self.status not in {"completed", "failed", "expired", "cancelled"}

    @property
    def problems(self) -> list[tuple[int | None, str, str]]:
        """What the check found: line (from 1), code and message of each."""
        found = self.errors.data if self.errors and self.errors.data else []
        return [
            (one.line, one.code or "", " ".join((one.message or one.code or "").split())) for one in found
        ]


class RemoteBatches(_Answer):
    """A page of the list of batches."""

    data: list[RemoteBatch]
    has_more: bool = False


class RemoteFile(_Answer):
    """A file; its size where the provider tells it."""

    id: str
    bytes: int | None = None


def read_remote(shape: type[_Shape], body: bytes) -> _Shape:
    """Return what a body holds; raises BrokenBody where it is none of these."""
    try:
        return shape.model_validate_json(body)
    except ValidationError:
        raise BrokenBody("the answer is none of a batch interface", passing=True) from None
