"""Measures an engine with pictures that come again and again: how fast it is, and what it waits for.

The engine is kept as full as a node keeps it. What it does before it is full is not counted, nor what it has in hand at
the end.

Always holds: at most `engine.capacity` calls are open; none is when `measure` returns.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import trio

from p2pcap.engine.base import Engine, EngineState
from p2pcap.errors import ConfigError, EngineDied, ImageError
from p2pcap.node.bottleneck import Means, Measured
from p2pcap.node.cpu import engine_cpu, other_cpu
from p2pcap.node.pictures import Picture, endless

FILLING = 15.0
"""Seconds after which counting begins, at the latest. It begins before, once as many images have been answered as the
engine takes at once: then every place has been used."""

LOOK_EVERY = 0.25
"""Seconds between two looks at what the engine is busy with."""


async def measure(
    engine: Engine, pictures: Sequence[Picture], batch: int, seconds: float, remote: bool = False
) -> Measured:
    """What `engine`, which is ready, does in so many seconds. `batch`: answers that it generates at once, at most;
    `remote`: servers elsewhere run the model.

    Raises ConfigError when the engine takes none of the pictures; EngineStartError or ModelError when it does not come
    back after it died.
    """
    feed = _Feed(engine, endless(pictures), len(pictures))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        with trio.move_on_after(FILLING):
            await feed.full.wait()
        cpu, others, began = engine_cpu(), other_cpu(), feed.begin()
        looks = [(began, engine.state)]
        while looks[-1][0] < began + seconds:
            await trio.sleep(min(LOOK_EVERY, began + seconds - looks[-1][0]))
            looks.append((trio.current_time(), engine.state))
        ended, spent, others_since = looks[-1][0], engine_cpu(), other_cpu()
        nursery.cancel_scope.cancel()
    return Measured(
        seconds=ended - began,
        images=feed.images,
        tokens=feed.tokens,
        latency=feed.waited / feed.images if feed.images else 0.0,
        means=means(looks, batch),
        cpu={part: max(0.0, spent[part] - cpu[part]) for part in cpu},
        cores=len(os.sched_getaffinity(0)),
        others=max(0.0, others_since - others - sum(spent.values()) + sum(cpu.values())),
        device=engine.state.device,
        remote=remote,
        failed=dict(feed.failed),
        deaths=feed.deaths,
    )


def means(looks: Sequence[tuple[float, EngineState]], batch: int) -> Means:
    """The means over the time between the first look and the last; each look holds until the next."""
    span = looks[-1][0] - looks[0][0]

    def mean(number: Callable[[EngineState], float]) -> float:
        return sum(number(state) * (after - at) for (at, state), (after, _) in pairwise(looks)) / span if span else 0.0

    return Means(
        running=mean(lambda state: state.load.running),
        waiting=mean(lambda state: state.load.waiting),
        batch=batch,
        kv=mean(lambda state: state.load.kv),
        decoding=mean(lambda state: state.load.decoding),
        in_flight=mean(lambda state: state.running),
    )


class _Feed:
    """Keeps the engine full, and counts from `begin` on."""

    def __init__(self, engine: Engine, pictures: Iterator[tuple[Picture, bytes]], different: int) -> None:
        self.full = trio.Event()
        self._engine = engine
        self._pictures = pictures
        self._different = different
        self._open = 0
        self._answered = 0
        self._refused = 0
        self._changed = trio.Event()
        self.begin()

    def begin(self) -> float:
        """Count anew; the time (trio's) from which on."""
        self.images = self.tokens = self.deaths = 0
        self.waited = 0.0
        self.failed: Counter[str] = Counter()
        return trio.current_time()

    async def run(self) -> None:
        """Until cancelled. Raises as `measure` says."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                while self._open < self._engine.capacity:
                    self._open += 1
                    nursery.start_soon(self._one, *next(self._pictures))
                await changed.wait()
                await self._engine.wait_ready()

    async def _one(self, picture: Picture, name: bytes) -> None:
        handed = trio.current_time()
        try:
            outputs = await self._engine.caption(picture.data, name, picture.fields)
        except ImageError as error:
            self._refuse(error)
        except EngineDied:
            self.deaths += 1
        else:
            self.images += 1
            self.tokens += sum(output.tokens for output in outputs)
            self.waited += trio.current_time() - handed
            self._answer()
        self._open -= 1
        self._changed.set()
        self._changed = trio.Event()

    def _answer(self) -> None:
        self._answered += 1
        if self._answered >= self._engine.capacity:
            self.full.set()

    def _refuse(self, error: ImageError) -> None:
        self.failed[error.code] += 1
        self._refused += 1
        if self._refused >= self._different and not self._answered:
            raise ConfigError(f"The engine takes none of the {self._different} pictures ({error}). Name others.")
