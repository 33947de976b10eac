"""A server with OpenAI's interface that takes the time it is told, for volunteers whose engine is not the subject."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.engine.openai_server import Asked, OpenAIServer, answer


class SlowServer:
    """Answers each question by `says` after `seconds`, on a thread of its own. Another time holds at once, also for
    the questions that wait already."""

    def __init__(self, says: Callable[[Asked], str]) -> None:
        self.url = ""
        self._says = says
        self._seconds = 0.0
        self._ready, self._end, self._told = threading.Event(), asyncio.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self._ready.wait()

    @property
    def seconds(self) -> float:
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._loop.call_soon_threadsafe(self._take, seconds)

    @property
    def engine(self) -> tuple[str, ...]:
        """The options of `join` for this server."""
        return ("--engine", "openai", "--url", self.url)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    def _take(self, seconds: float) -> None:
        self._seconds = seconds
        self._told.set()
        self._told = asyncio.Event()

    async def _serve(self) -> None:
        async with OpenAIServer() as server:
            server.always = self._answer
            self.url = server.url
            self._ready.set()
            await self._end.wait()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        asked_at = self._loop.time()
        while (left := asked_at + self._seconds - self._loop.time()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), left)
        await answer(self._says(asked))(asked, writer)
