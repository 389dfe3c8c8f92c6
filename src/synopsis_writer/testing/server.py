"""A real HTTP server on 127.0.0.1 that speaks OpenAI's protocol from a script."""

import http.server
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from synopsis_writer.testing.player import Player, Request
from synopsis_writer.testing.steps import Body, Fault, Step

__all__ = ["LoopbackServer", "Request", "Step"]

_POLL = 0.01


class LoopbackServer:
    """Serves `/v1/chat/completions` from a script, and `/v1/models`, on a free port, in a `with` block.

    Args:
        steps: what each chat request gets, in order.
        repeat_last: give the last step to all further requests; without it they get a 400, and leaving the
            `with` block raises an AssertionError.
        refuses: what it answers 400 to: types of `response_format` (`json_schema`, `json_object`), and
            names of fields, such as `max_completion_tokens`, `temperature`, `prompt_cache_key`, `stream` or
            `stream_options`; such a request takes no step.
        key: the key it demands; any other one gets a 401 and takes no step.
        models: the models it lists, or a step to give to that request.

    Attributes:
        requests: all requests, in order.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        repeat_last: bool = True,
        refuses: Iterable[str] = (),
        key: str | None = None,
        models: Sequence[str] | Step = ("loopback-model",),
    ) -> None:
        self._steps = tuple(steps)
        self._repeat_last = repeat_last
        self._refuses = frozenset(refuses)
        self._key = key
        self._models = models
        self._taken = 0
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Player, self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL,), daemon=True)

    @property
    def base_url(self) -> str:
        """The address, ending in /v1."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def chats(self) -> list[Request]:
        """The requests for a completion, in order."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving.

        Raises:
            AssertionError: more was asked than the script holds.
        """
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        if error is None and self._taken > len(self._steps) and not self._repeat_last:
            raise AssertionError(
                f"{self._taken} completions were asked of a script with {len(self._steps)} steps: "
                "add a step, or find out who asks once more"
            )

    def answer(self, request: Request) -> Step:
        """Record a request, and return what it gets."""
        self.requests.append(request)
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            return Fault(401, message="Incorrect API key provided", code="invalid_api_key")
        if request.path == "/v1/models":
            return self._list()
        if request.path == "/v1/chat/completions":
            return self._refusal(request) or self._next()
        return Fault(404, message=f"Unknown request URL: {request.path}", code="unknown_url")

    def _list(self) -> Step:
        if not isinstance(self._models, Sequence):
            return self._models
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "you"} for name in self._models]
        return Body({"object": "list", "data": models})

    def _refusal(self, request: Request) -> Fault | None:
        body = request.body if isinstance(request.body, dict) else {}
        for field in body:
            if field in self._refuses:
                said = f"Unsupported parameter: '{field}' is not supported with this model"
                return Fault(400, message=said, code="unsupported_parameter", param=field)
        asked = body.get("response_format")
        kind = asked.get("type") if isinstance(asked, dict) else None
        if kind not in self._refuses:
            return None
        return Fault(400, message=f"Invalid parameter: 'response_format' of type '{kind}' is not supported")

    def _next(self) -> Step:
        with self._lock:
            self._taken += 1
            place = self._taken - 1
        if place < len(self._steps):
            return self._steps[place]
        if self._repeat_last and self._steps:
            return self._steps[-1]
        return Fault(400, message=f"the script of {len(self._steps)} steps is used up")
