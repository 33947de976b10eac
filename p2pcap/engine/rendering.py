"""Prompts and pictures made ready for the model in one thread, as many as wait at a time.

vLLM would send each request to its thread alone: a hop there and back for each, and requests that reach the model one
by one, for each of which it may begin a step of its own. Here all that wait go together, and come back together.

Always holds: each request gets what became of it, its own error included; one that nobody waits for any more is left
out if it has not begun.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.v1.engine.async_llm import AsyncLLM

AT_ONCE = 8
"""Requests for one hop to the thread: more would keep the model waiting for the first of them."""

Ready = Any
"""vLLM's EngineInput."""


class Rendering:
    """The thread of one engine. vLLM's multimodal cache is only right when one thread at a time writes to it."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._thread = ThreadPoolExecutor(1, "rendering")
        self._waiting: deque[tuple[Mapping[str, Any], asyncio.Future[Ready]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def ready(self, request: Mapping[str, Any]) -> Ready:
        """The request as the model takes it. Raises whatever vLLM and the model's own code raise."""
        made: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, made))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return await made

    def now(self, request: Mapping[str, Any]) -> Ready:
        """The same, while the event loop waits: milliseconds. For a request that is not to be sent."""
        outcome = self._thread.submit(self._one, request).result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while part := self._next_part():
            outcomes = await loop.run_in_executor(self._thread, self._made, [request for request, _ in part])
            for (_, made), outcome in zip(part, outcomes, strict=True):
                if made.done():
                    continue  # it was cancelled meanwhile
                if isinstance(outcome, Exception):
                    made.set_exception(outcome)
                else:
                    made.set_result(outcome)
        self._task = None

    def _next_part(self) -> list[tuple[Mapping[str, Any], "asyncio.Future[Ready]"]]:
        part: list[tuple[Mapping[str, Any], asyncio.Future[Ready]]] = []
        while self._waiting and len(part) < AT_ONCE:
            waiting = self._waiting.popleft()
            if not waiting[1].done():
                part.append(waiting)
        return part

    def _made(self, requests: Sequence[Mapping[str, Any]]) -> list[Ready | Exception]:
        return [self._one(request) for request in requests]

    def _one(self, request: Mapping[str, Any]) -> Ready | Exception:
        renderer = self._llm.renderer
        try:
            (made,) = renderer.render_cmpl(
                [parse_model_prompt(self._llm.model_config, request)], renderer.default_cmpl_tok_params
            )
        except Exception as error:  # noqa: BLE001 - the model's own code reads the image; whoever waits gets the error
            return error
        return made
