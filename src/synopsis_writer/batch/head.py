"""The head of a cluster, looked at every few seconds: Ray notices its death late, and ends the program."""

import asyncio
from collections.abc import Callable


class Head:
    """The node that all others of a cluster hang on.

    Args:
        reach: raises a ConnectionError while it does not answer.
        look: seconds between two looks.
        patience: seconds without an answer until nothing more is begun; twice that, and nothing is waited
            for: Ray would end this process after 60.
    """

    def __init__(self, reach: Callable[[], None], look: float, patience: float) -> None:
        self._reach = reach
        self._look = look
        self._patience = patience
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # nothing is waited for

    async def answers(self) -> bool:
        """Whether it answers."""
        try:
            await asyncio.to_thread(self._reach)
        except ConnectionError:
            return False
        return True

    async def watch(self, silent: Callable[[], None]) -> None:
        """Look until it is lost; `silent` is called when nothing more is to be begun."""
        now = asyncio.get_running_loop().time
        answered = now()
        while not self.lost.done():
            await asyncio.sleep(self._look)
            if await self.answers():
                answered = now()
            elif now() - answered >= 2 * self._patience:
                self.lost.set_result(None)
            elif now() - answered >= self._patience:
                silent()
