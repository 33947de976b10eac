"""What a calibration asks of an engine: captions, and scores of honest and of false ones.

Always holds: at most as many calls are open as the engine takes at once; an engine that dies is asked again when it is
back, and one that does not come back ends the measure with its own error.
"""

import hashlib
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio
from msgspec.structs import replace

from p2pcap.audit import cheats
from p2pcap.audit.agreement import likeness
from p2pcap.audit.calibrating import Sample
from p2pcap.audit.cheats import Answers, False_, Ids
from p2pcap.engine.base import NodeEngine, Score
from p2pcap.errors import EngineDied, ImageError
from p2pcap.project.task import Task

TRIES = 3
"""How often one call is made when the engine dies under it."""

UNKNOWN = Score((math.nan,), (math.nan,))
"""Of an answer that the engine cannot score."""

SEED = 1
"""Of what is made at random: the same answers are falsified in the same way each time."""

T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """An image that the engine is shown: the file, and what the dataset says of it."""

    data: bytes
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> bytes:
        """Of the file."""
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True)
class Captioned:
    """An image with somebody's answers about it."""

    shown: Shown
    answers: Answers


Say = Callable[[str], None]


class Measuring:
    """Asks `engine`, which is ready for `task`. `say` hears what is being measured.

    Each call raises EngineStartError or ModelError when the engine does not come back, EngineDied when it dies of the
    same call TRIES times.
    """

    def __init__(self, engine: NodeEngine, task: Task, say: Say) -> None:
        self._engine = engine
        self._task = task
        self._say = say
        self._rng = random.Random(SEED)

    async def captions(self, images: Sequence[Shown]) -> list[Captioned]:
        """The engine's own answers, to the images that have any."""

        async def one(shown: Shown) -> Captioned | None:
            try:
                answers = await self._engine.caption(shown.data, shown.sha256, shown.fields)
            except ImageError:
                return None
            return Captioned(shown, answers)

        made = await self._all(one, images)
        return [one for one in made if one is not None]

    async def guesses(self, images: Sequence[Shown]) -> list[Captioned]:
        """Its answers when it is not shown the image."""
        blind = replace(self._task, prompts=tuple(replace(prompt, image=False) for prompt in self._task.prompts))
        await self._asked(lambda: self._engine.use(blind))
        made = await self.captions(images)
        await self._asked(lambda: self._engine.use(self._task))
        return made

    async def told(self, items: Sequence[Captioned]) -> list[Sample]:
        """The scores of answers whose tokens are told."""
        return await self._scored(items, [[answer.ids for answer in item.answers] for item in items])

    async def plain(self, items: Sequence[Captioned]) -> list[Sample]:
        """The scores of answers of which only the text is told."""
        return await self._all(self._plain, items)

    async def alike(self, items: Sequence[Captioned]) -> list[list[float]]:
        """How alike the answers are to those that the engine gives now (p2pcap.audit.agreement), where it gives any."""
        shown = {item.shown.sha256: item.shown for item in items}
        own = {item.shown.sha256: item.answers for item in await self.captions(list(shown.values()))}
        pairs = [(item.answers, own[item.shown.sha256]) for item in items if item.shown.sha256 in own]
        return [
            [likeness(one.text, other.text) for one, other in zip(claimed, answers, strict=True)]
            for claimed, answers in pairs
        ]

    async def cheats(self, items: Sequence[Captioned]) -> dict[str, list[Sample]]:
        """The scores of false answers, by the way in which they are false."""
        answers = [item.answers for item in items]
        made = {
            "other-image": cheats.others(answers),
            "copied": cheats.copied(answers),
            "truncated": cheats.truncated(answers, self._rng),
            "random": cheats.at_random(answers, self._rng),
        }
        found = {}
        for name, claims in made.items():
            self._say(f"scoring {name}")
            found[name] = await self._scored(items, claims)
        self._say("scoring edited")
        found["edited"] = await self._edited(items)
        return {name: samples for name, samples in found.items() if samples}

    async def _edited(self, items: Sequence[Captioned]) -> list[Sample]:
        """Of each item's longest answer one word is another."""
        words = {number: cheats.words_of([item.answers for item in items], number) for number in self._numbers}
        claims: list[Captioned] = []
        for item in items:
            number = cheats.longest(item.answers)
            text = cheats.edited(item.answers[number].text, words[number], self._rng)
            if text is not None:
                changed = replace(item.answers[number], text=text, ids=())
                answers = (*item.answers[:number], changed, *item.answers[number + 1 :])
                claims.append(Captioned(item.shown, answers))
        return await self._all(self._plain, claims)

    @property
    def _numbers(self) -> range:
        return range(len(self._task.prompts))

    async def _plain(self, item: Captioned) -> Sample:
        """The scores of an item's answers; of one without tokens the text is cut, and the likeliest way counts."""
        return [await self._best(item, number) for number in self._numbers]

    async def _best(self, item: Captioned, number: int) -> Score:
        answer = item.answers[number]
        try:
            readings = await self._engine.cut(number, answer.text, answer.finish)
        except ImageError:
            return UNKNOWN
        scores = [await self._score(item, number, ids) for ids in readings]
        return max(scores, key=_likelihood, default=UNKNOWN)

    async def _scored(self, items: Sequence[Captioned], claims: Sequence[False_]) -> list[Sample]:
        async def one(pair: tuple[Captioned, list[Ids]]) -> Sample:
            item, ids = pair
            return [await self._score(item, number, ids[number]) for number in self._numbers]

        pairs = [(item, claim) for item, claim in zip(items, claims, strict=True) if claim is not None]
        return await self._all(one, pairs)

    async def _score(self, item: Captioned, number: int, ids: Ids) -> Score:
        shown, values = item.shown, dict(item.shown.fields)
        values |= {self._task.prompts[before].name: item.answers[before].text for before in range(number)}
        try:
            return await self._engine.score(shown.data, shown.sha256, number, ids, values)
        except ImageError:
            return UNKNOWN

    async def _all(self, one: Callable[..., Awaitable[T]], items: Sequence[object]) -> list[T]:
        """What `one` makes of each, in their order."""
        made: dict[int, T] = {}
        room = trio.CapacityLimiter(max(1, self._engine.capacity))

        async def run(number: int) -> None:
            async with room:
                made[number] = await self._asked(lambda: one(items[number]))

        async with trio.open_nursery() as nursery:
            for number in range(len(items)):
                nursery.start_soon(run, number)
        return [made[number] for number in range(len(items))]

    async def _asked(self, call: Callable[[], Awaitable[T]]) -> T:
        for left in reversed(range(TRIES)):
            try:
                return await call()
            except EngineDied:
                if not left:
                    raise
                await self._engine.wait_ready()
        raise AssertionError("the last try returns or raises")


def _likelihood(score: Score) -> float:
    return -math.inf if math.isnan(score.margins[0]) else sum(score.logprobs)
