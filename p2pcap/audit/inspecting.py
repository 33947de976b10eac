"""Inspecting one result: its rows, the tokens that its author tells, the images of the items to be checked; and then
each item with the engine, in turn with the node's own images.

Always holds: while the node captions, at most AT_ONCE items are with the engine, and no more than the pace allows; an
item under which the engine died is tried once more, without any other image there, and then left alone.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
import trio

from p2pcap.audit.agenda import Pick
from p2pcap.audit.checking import Checking, Outcome, Shown, is_passing, together
from p2pcap.audit.pace import AT_ONCE, Pace
from p2pcap.audit.station import AuditStation, Captioning
from p2pcap.engine.base import ReadingEngine
from p2pcap.errors import EngineDied, ImageError
from p2pcap.ledger.evidence import Ids
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.project.audit import Audit
from p2pcap.project.task import Task

LOOK_EVERY = 1.0
"""Seconds after which whoever waits for the captioning to get on looks again, at least."""

RIVALS = 4
"""Results that are compared with one that covers the same items."""

log = structlog.get_logger()


class Inspector:
    """Inspects results of one task with one engine."""

    def __init__(
        self,
        ledger: Ledger,
        task: Task,
        audit: Audit,
        engine: ReadingEngine,
        station: AuditStation,
        captioning: Captioning,
    ) -> None:
        self._ledger = ledger
        self._task = task
        self._checking = Checking(task, audit, engine)
        self._engine = engine
        self._station = station
        self._captioning = captioning
        self._pace = Pace(captioning.made)
        self._room = trio.CapacityLimiter(AT_ONCE)

    async def inspect(self, pick: Pick) -> tuple[dict[int, Outcome], int]:
        """What the items of a pick are, by place from the result's offset on, and those that cannot be told now."""
        author, result = self._ledger.results.get(pick.id, (b"", None))
        rows = await self._station.rows(pick.id, result) if result is not None else ()
        if result is None or rows is None:
            return {}, 0 if result is None else pick.items
        wanted = [row for row in rows if pick.items >> (row.item - result.offset) & 1]
        shared = [row for row in rows if pick.shared >> (row.item - result.offset) & 1]
        wanted += await self._disputed(author, result, shared) if shared else []
        evidence = await self._station.evidence(author, result) if any(row.answers for row in wanted) else {}
        if evidence is None and not pick.tries:
            return {}, _bits(wanted, result)  # the author may be there a minute later
        outcomes = await self._outcomes(pick, result, wanted, evidence or {})
        left = [row for row in wanted if row.item - result.offset not in outcomes]
        return together(outcomes), _bits(left, result)

    async def _disputed(self, author: bytes, result: Result, rows: Sequence[Row]) -> list[Row]:
        """Those of `rows` for which another author's result says something else."""
        batches = self._ledger.works[result.tid].rows.batches(result.chunk)
        rivals = [one for one, held in batches.items() if held.author != author and held.items & result.items]
        counting = [one for one in rivals if self._ledger.counts(one, batches[one].author)]
        theirs: dict[int, list[Row]] = {}
        for rival in counting[:RIVALS]:
            for row in await self._station.rows(rival, self._ledger.results[rival][1]) or ():
                theirs.setdefault(row.item, []).append(row)
        return [row for row in rows if any(_says(row) != _says(other) for other in theirs.get(row.item, ()))]

    async def _outcomes(
        self, pick: Pick, result: Result, rows: Sequence[Row], evidence: Mapping[int, Ids]
    ) -> dict[int, Outcome]:
        images = await self._station.images(result.chunk, [row.item for row in rows])
        values = await self._station.values(result, rows)
        outcomes: dict[int, Outcome] = {}

        async def one(row: Row) -> None:
            image = images.get(row.item)
            if image is not None and row.item in values:
                outcome = await self._outcome(result, row, image, evidence.get(row.item, ()), values[row.item])
                if outcome is not None:
                    outcomes[row.item - result.offset] = outcome

        async with trio.open_nursery() as nursery:
            for row in rows:
                nursery.start_soon(one, row)
        return outcomes

    async def _outcome(
        self, result: Result, row: Row, image: Shown | ImageError, ids: Ids, values: Mapping[str, str]
    ) -> Outcome | None:
        """What an item is; None when it cannot be told now."""
        if isinstance(image, ImageError):
            return None if is_passing(image) or row.answers else await self._checking.error(image, row, values)
        for alone in (False, True):
            try:
                async with self._turn(), self._captioning.entered(alone):
                    if row.error:
                        return await self._checking.error(image, row, values)
                    return await self._checking.answers(image, row, ids, values, result.engine)
            except EngineDied:
                await self._engine.wait_ready()
            except ImageError as error:
                log.info("not checked", item=row.item, chunk=result.chunk, code=error.code)
                return Outcome("unsure", "image")
        return Outcome("unsure", "image")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the items that may be with the engine now."""
        async with self._room:
            while not self._pace.may(self._captioning.made, self._busy()):
                with trio.move_on_after(LOOK_EVERY):
                    await self._station.changed()
            self._pace.took(self._captioning.busy)
            yield

    def _busy(self) -> bool:
        """Whether the engine has work of its own; without any, as many items are checked at a time as fill it."""
        busy = self._captioning.busy
        self._room.total_tokens = AT_ONCE if busy else max(AT_ONCE, self._engine.capacity)
        return busy


def _says(row: Row) -> tuple[str, tuple[str, ...]]:
    return row.error, tuple(answer.text for answer in row.answers)


def _bits(rows: Iterable[Row], result: Result) -> int:
    """The rows' items, as bits from the result's offset on."""
    return sum(1 << (row.item - result.offset) for row in rows)
