"""The worker's surroundings, filled in by the node: images from peers, durability from the store, news to the swarm."""

from collections.abc import Callable, Mapping, Sequence

import structlog

from p2pcap.envelope import Envelope
from p2pcap.errors import SwarmError
from p2pcap.ledger.body import Body, error_bits
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import Fetching
from p2pcap.node.intake import put_standing
from p2pcap.node.seams import Clock, LedgerStore, Network
from p2pcap.project.records import Item
from p2pcap.store.writes import PutBatch

log = structlog.get_logger()


class NodeStation:
    """Implements `p2pcap.worker.station.Station`."""

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        network: Network,
        fetching: Fetching,
        change: Change,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._ledger = ledger
        self._store = store
        self._network = network
        self._clock = clock
        self._fetching = fetching
        self._change = change

    @property
    def workers(self) -> int:
        """Ready engines: this node's and those of connected peers."""
        return 1 + sum(1 for peer in self._network.peers() if peer.status is not None and peer.status.engine_ready)

    @property
    def released(self) -> bool:
        """Once any result exists the project has begun; until then as many engines as the policy asks must be ready."""
        begun = bool(self._ledger.done or self._ledger.announced)
        return begun or self.workers >= self._ledger.project.plan.policy.wait_for_engines

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The chunk's item list."""
        return await self._fetching.items(chunk)

    async def images(self, hashes: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The images' bytes, and a word to people when some are not to be had."""
        found = await self._fetching.images(hashes)
        if missing := len(set(hashes)) - len(found):
            self._say(f"{missing} images are with no peer; going on with others, and asking again in a minute")
        return found

    async def publish_claim(self, claim: Envelope) -> None:
        """Gossip a claim; it is a hint, so nothing waits for it to arrive."""
        await self._publish("claims", claim)

    async def publish_result(self, header: Envelope, result: Result, rows: Sequence[Row], body: Body) -> None:
        """Commit, then count, then announce. What was redacted meanwhile is not said at all."""
        ledger, id_, author = self._ledger, header.id, header.author
        async with self._change.turn:
            if not ledger.is_wanted(result):
                log.info("not published", chunk=result.chunk, reason="an item of it was redacted")
                return
            put = PutBatch(header, result, rows, body.data, self._clock())
            await self._store.commit(put, *put_standing(ledger, [(id_, author)]))
            ledger.add(header, result)
            ledger.complete(id_, author, result, error_bits(rows))
        ledger.claims.progress(author, self._clock())
        self._change.tell()
        await self._publish("results", header)

    async def _publish(self, topic: str, envelope: Envelope) -> None:
        try:
            await self._network.publish(topic, envelope.data)
        except SwarmError as error:
            # Gossip is the fast way, sync the sure one: peers learn of it at the next exchange.
            log.warning("not gossiped", topic=topic, reason=str(error))

    async def changed(self) -> None:
        """Wait for news."""
        await self._change.wait()
