"""The page's server in a thread, on loopback, and a browser's requests to it."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx2

from synopsis_writer import Writer
from synopsis_writer.page.server import Access, application, listen, serve

KEY = "sk-secret"  # of the model's server: it never reaches the page


class Browser:
    """Asks as the page does: with cookie, token and origin; errors come back as they are."""

    def __init__(self, address: str) -> None:
        self.origin = address.partition("/?")[0]
        self.client = httpx2.Client(base_url=self.origin, follow_redirects=True, trust_env=False, timeout=120)
        page = self.client.get(address).text
        found = re.search(r'name="synopsis-token" content="([^"]+)"', page)
        assert found is not None, page
        self.token = found[1]

    @property
    def headers(self) -> dict[str, str]:
        """What the page sends with a request that changes anything."""
        return {"Origin": self.origin, "X-Synopsis-Token": self.token}

    def ask(self, method: str, path: str, data: Any = None, **more: Any) -> httpx2.Response:
        """Send a request with JSON, or bytes as they are."""
        body = data if isinstance(data, bytes) else None if data is None else json.dumps(data).encode()
        answer = self.client.request(method, path, content=body, **{"headers": self.headers, **more})
        assert KEY not in answer.text + str(answer.headers)
        return answer

    def get(self, path: str) -> Any:
        """Return the JSON of an answer that must be one."""
        return self.of(self.ask("GET", path))

    def post(self, path: str, data: Any = None) -> Any:
        """Send JSON, and return that of the answer."""
        return self.of(self.ask("POST", path, {} if data is None else data))

    def put(self, path: str, data: Any) -> Any:
        """The same with PUT."""
        return self.of(self.ask("PUT", path, data))

    @staticmethod
    def of(answer: httpx2.Response) -> Any:
        """Return the JSON of an answer that must be one."""
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


@contextmanager
def served(open_writer: Callable[[], Writer]) -> Iterator[Browser]:
    """Serve the page for the time of a `with` block, and give a browser that has opened it."""
    listening = listen("127.0.0.1", 0)
    access = Access("127.0.0.1", listening.getsockname()[1])
    started = threading.Event()
    stopping: list[Callable[[], object]] = []

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        stopping.append(lambda: loop.call_soon_threadsafe(task.cancel))
        await serve(application(access, open_writer, "de", started.set), listening)

    def work() -> None:
        with listening, suppress(asyncio.CancelledError):
            asyncio.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(120)
        with Browser(access.address) as browser:
            yield browser
    finally:
        stopping[0]()
        thread.join()
