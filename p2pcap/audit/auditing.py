"""Checking others' captions with the node's own engine, behind its own work: choose, inspect, sign, tell.

By a verifier everything that is found is signed, by another volunteer only what is bad, as an accusation.

Always holds: at most LOOPS results are in hand; a check that is cancelled is on the agenda again; a finding is durable
before anybody is told of it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog
import trio

from p2pcap.audit.agenda import Agenda, Pick
from p2pcap.audit.checking import Outcome
from p2pcap.audit.findings import findings
from p2pcap.audit.inspecting import Inspector
from p2pcap.audit.station import AuditStation, Captioning
from p2pcap.audit.watching import Watch
from p2pcap.engine.base import ReadingEngine
from p2pcap.envelope import seal
from p2pcap.identity import Identity
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work

LOOPS = 4
"""Results in hand at one time: while one waits for its author, others go on."""

WITHIN = 900.0
"""Seconds for a check. A slow engine with a full batch may take minutes for an item."""

TRIES = 5
"""Times that a result is looked at, when images or its author are not to be had."""

AGAIN = 60.0
"""Seconds until the second try; twice as many each time after that."""

log = structlog.get_logger()


class Auditing:
    """The checks of one node. `counts` are items checked, by what they were."""

    def __init__(
        self, identity: Identity, ledger: Ledger, watch: Watch, station: AuditStation, clock: Callable[[], float]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._identity = identity
        self._ledger = ledger
        self._watch = watch
        self._station = station
        self._clock = clock

    async def run(self, work: Work, engine: ReadingEngine, captioning: Captioning) -> None:
        """Check results of that task, which is the engine's, until cancelled. Returns at once where nothing is checked.

        Raises ModelError or EngineStartError when the engine has failed for good.
        """
        audit = self._watch.audit_of(work.tid)
        if audit is None:
            return
        inspector = Inspector(self._ledger, work.task, audit, engine, self._station, captioning)
        await engine.wait_ready()
        async with trio.open_nursery() as nursery:
            for _ in range(LOOPS):
                nursery.start_soon(self._loop, self._watch.agenda(work.tid), inspector)

    async def _loop(self, agenda: Agenda, inspector: Inspector) -> None:
        while True:
            now = self._clock()
            pick = agenda.next(now)
            if pick is not None:
                await self._check(agenda, inspector, pick)
                continue
            wakes = agenda.wakes()
            with trio.move_on_after(float("inf") if wakes is None else max(0.0, wakes - now)):
                await self._station.changed()

    async def _check(self, agenda: Agenda, inspector: Inspector, pick: Pick) -> None:
        left = pick.items
        try:
            with trio.move_on_after(WITHIN):
                outcomes, left = await inspector.inspect(pick)
                await self._sign(pick.id, outcomes)
                if any(one.word == "unsure" and one.method == "retry" for one in outcomes.values()):
                    self._watch.doubt_errors(pick.id)
        except BaseException:
            agenda.done(pick)
            agenda.put(pick)
            raise
        agenda.done(pick)
        if left and pick.tries + 1 < TRIES:
            agenda.rest(
                replace(pick, items=left, shared=0, tries=pick.tries + 1), self._clock() + AGAIN * 2**pick.tries
            )
        elif left:
            log.info("not checked", result=pick.id.hex(), items=left.bit_count())

    async def _sign(self, batch: bytes, outcomes: Mapping[int, Outcome]) -> None:
        """Say what was found, as far as it is this node's to say."""
        self.counts.update(outcome.word for outcome in outcomes.values())
        for finding in findings(self._ledger.project.m, batch, outcomes, self._clock()):
            if finding.verdict == "bad" or self._watch.is_verifier:
                await self._station.publish(seal(self._identity, "verdict", finding), finding)
