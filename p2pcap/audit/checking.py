"""One item of a stranger's result, checked with this node's engine: what its answers are, and by which method.

An answer's tokens are read by the model (`tokens`), as its author told them or, where he did not, as its text is cut
here (`text`); where tokens say nothing the node captions the image itself and compares (`agreement`). An error is tried
again (`retry`).

Always holds: what cannot be told is "unsure" and never "bad"; a claim reaches the model only as the engine lets it
(p2pcap.engine.scoring).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import trio

from p2pcap.audit.agreement import likeness
from p2pcap.audit.judging import FAR, Judged, judge, judge_alike
from p2pcap.engine.base import Finish, ReadingEngine, Score
from p2pcap.errors import EngineDied, ImageError
from p2pcap.ledger.evidence import Ids
from p2pcap.ledger.records import Row
from p2pcap.project.audit import Audit
from p2pcap.project.failures import CODES
from p2pcap.project.task import Task

Word = Literal["ok", "bad", "differs", "unsure"]
Method = Literal["tokens", "text", "agreement", "retry", "image"]

PLAIN_FAULTS = frozenset(("empty", "undecodable", "truncated", "not-image", "too-large", "too-long"))
"""Errors that follow from the image's bytes alone: who has the same bytes and an answer knows that they are none. Of
all others one says little (a host may have failed, a model may have been undecided), and several say enough."""

SLACK = 8
"""Tokens by which an honest answer that was cut by the context may be shorter than this node's own."""


@dataclass(frozen=True)
class Shown:
    """An image: the SHA-256 of its bytes, and the bytes."""

    hash: bytes
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What an item is, by which method, and the method's numbers."""

    word: Word
    method: Method
    numbers: bytes = b""


class Checking:
    """Checks items of one task. `values_of` a row are what its prompts used beside the image."""

    def __init__(self, task: Task, audit: Audit, engine: ReadingEngine) -> None:
        self._task = task
        self._audit = audit
        self._engine = engine

    async def answers(
        self, image: Shown, row: Row, ids: Ids, values: Mapping[str, str], engine_class: bytes
    ) -> Outcome:
        """Whether the row's answers are what the model says of the image. `ids` are as in the evidence, none where it
        has none; `engine_class` is its author's.

        Raises EngineDied; ImageError when this node cannot make anything of the image itself.
        """
        if image.hash != row.image:
            return Outcome("differs", "image")
        slack = 1.0 if self._measured(engine_class) else FAR
        if self._audit.method == "agreement":
            return await self._compare(image, row, values, slack)
        if len(ids) == len(row.answers) and all(ids):
            if outcome := await self._misspelt(image, row, ids, values):
                return outcome if slack == 1.0 else Outcome("unsure", outcome.method)
            if outcome := await self._read(image, row, ids, values, slack):
                return outcome
        return await self._read(image, row, (), values, slack) or Outcome("unsure", "text")

    def _measured(self, engine_class: bytes) -> bool:
        """Whether the measures were taken of engines like his, and like this one."""
        return self._audit.knows(engine_class) and self._audit.knows(self._engine.state.engine_class)

    # tokens

    async def _read(self, image: Shown, row: Row, ids: Ids, values: Mapping[str, str], slack: float) -> Outcome | None:
        """What the model makes of these tokens, or of the text where there are none; None when it cannot read them: an
        answer is what its text says, so nobody gets past a check by tokens that cannot be read."""
        try:
            scores = await self._scores(image, row, ids, values)
        except ImageError as error:
            if error.code != "unscorable":
                raise
            return None
        judged = judge(self._audit, scores, bool(ids), slack)
        return Outcome(judged.verdict, "tokens" if ids else "text", judged.numbers)

    async def _scores(self, image: Shown, row: Row, ids: Ids, values: Mapping[str, str]) -> list[Score]:
        """What the model thinks of the answers, asked for at once: they share what is read of the image."""
        scores: dict[int, Score] = {}

        async def one(number: int) -> None:
            scores[number] = await self._score(image, row, number, ids, values)

        try:
            async with trio.open_nursery() as nursery:
                for number in range(len(row.answers)):
                    nursery.start_soon(one, number)
        except* (EngineDied, ImageError) as group:
            raise _first(group) from group
        return [scores[number] for number in range(len(row.answers))]

    async def _score(self, image: Shown, row: Row, number: int, ids: Ids, values: Mapping[str, str]) -> Score:
        """What the model thinks of an answer. A text can be cut into tokens in several ways: the likeliest counts."""
        answer, told = row.answers[number], {**values, **earlier(self._task, row, number)}
        readings = [ids[number]] if ids else await self._engine.cut(number, answer.text, cast(Finish, answer.finish))
        if not readings:
            raise ImageError("unscorable", "The answer has no tokens.")
        scores = [await self._engine.score(image.data, image.hash, number, reading, told) for reading in readings]
        return max(scores, key=lambda score: sum(score.logprobs))

    async def _misspelt(self, image: Shown, row: Row, ids: Ids, values: Mapping[str, str]) -> Outcome | None:
        """What is wrong with tokens that are of another text than the answer, or of none that is whole."""
        for number, answer in enumerate(row.answers):
            spelt = await self._engine.spell(number, ids[number], cast(Finish, answer.finish))
            if spelt.text != answer.text or len(ids[number]) != answer.tokens or not spelt.ended:
                return Outcome("bad" if spelt.certain else "unsure", "tokens")
            if spelt.short and not await self._is_cut_short(image, row, number, values):
                return Outcome("bad", "tokens")
        return None

    async def _is_cut_short(self, image: Shown, row: Row, number: int, values: Mapping[str, str]) -> bool:
        """Whether an answer has to end before `max_tokens`, for want of context: then the node's own does too."""
        own = (await self._engine.caption(image.data, image.hash, values))[number]
        return own.finish == "length" and own.tokens <= row.answers[number].tokens + SLACK

    # agreement

    async def _compare(self, image: Shown, row: Row, values: Mapping[str, str], slack: float) -> Outcome:
        own = await self._engine.caption(image.data, image.hash, values)
        alike = [likeness(answer.text, mine.text) for answer, mine in zip(row.answers, own, strict=True)]
        judged: Judged = judge_alike(self._audit, alike, slack)
        return Outcome(judged.verdict, "agreement", judged.numbers)

    # errors

    async def error(self, image: Shown | ImageError, row: Row, values: Mapping[str, str]) -> Outcome:
        """Whether an item ends here as an error too. That one has an answer here is "bad" for an error that follows
        from the bytes; else it is "unsure", and several of them in a result say more (`together`).

        Raises EngineDied.
        """
        if isinstance(image, ImageError):
            return Outcome("ok", "retry")
        try:
            await self._engine.caption(image.data, image.hash, values)
        except ImageError:
            return Outcome("ok", "retry")
        return Outcome("bad" if row.error in PLAIN_FAULTS else "unsure", "retry")


MANY = 3
"""Errors of a result that all had an answer here: no chance, and no bad day of a host."""


def together(outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """The outcomes of a result's items, by place. MANY errors that were tried again and had answers are bad, when no
    error was confirmed."""
    tried = {place: one for place, one in outcomes.items() if one.method == "retry"}
    doubtful = [place for place, one in tried.items() if one.word == "unsure"]
    lies = len(doubtful) >= MANY and all(one.word != "ok" for one in tried.values())
    return {**outcomes, **{place: Outcome("bad", "retry") for place in doubtful if lies}}


def earlier(task: Task, row: Row, number: int) -> dict[str, str]:
    """The claimed answers to the prompts before this one, by name."""
    return {prompt.name: answer.text for prompt, answer in zip(task.prompts[:number], row.answers, strict=False)}


def is_passing(error: ImageError) -> bool:
    """Whether an image may be had later."""
    known = CODES.get(error.code)
    return known is not None and not known.lasting


def _first(group: BaseExceptionGroup[EngineDied | ImageError]) -> EngineDied | ImageError:
    """One of several errors: that the engine died goes before all others, which may follow from it."""
    leaves = [error for error in group.exceptions if isinstance(error, EngineDied | ImageError)]
    return next((error for error in leaves if isinstance(error, EngineDied)), leaves[0])
