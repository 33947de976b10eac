"""The worker's surroundings, filled in by the node: images from peers, durability from the store, news to the swarm."""

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog
import trio

from p2pcap.envelope import Envelope
from p2pcap.errors import ImageError, SourceError, SwarmError
from p2pcap.ledger.body import Body, error_bits
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.node.answers import canonical_answers
from p2pcap.node.change import Change
from p2pcap.node.fetching import Fetching
from p2pcap.node.images import Images
from p2pcap.node.intake import put_standing
from p2pcap.node.seams import Clock, LedgerStore, Network
from p2pcap.project.items import Item
from p2pcap.store.writes import PutBatch, PutBlob, Write
from p2pcap.worker.slices import Image

VAIN_PAUSE, MOST_VAIN = 5.0, 6
"""Seconds, doubled with each failure in a row so many times, for which a loader rests when images cannot be read here:
what keeps this machine from them hardly ends in a moment, and each try claims work that others could do."""

log = structlog.get_logger()


class NodeStation:
    """Implements `p2pcap.worker.station.Station`."""

    def __init__(
        self,
        ledger: Ledger,
        work: Work,
        store: LedgerStore,
        network: Network,
        fetching: Fetching,
        images: Images,
        change: Change,
        clock: Clock,
        say: Callable[[str], None],
        on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
    ) -> None:
        """`on_rows` gets the rows of each result once it is durable."""
        self._say = say
        self._on_rows = on_rows
        self._ledger = ledger
        self._work = work
        self._store = store
        self._network = network
        self._clock = clock
        self._fetching = fetching
        self._images = images
        self._vain = 0
        self._change = change

    @property
    def workers(self) -> int:
        """Ready engines: this node's and those of connected peers."""
        return 1 + sum(1 for peer in self._network.peers() if peer.status is not None and peer.status.engine_ready)

    @property
    def released(self) -> bool:
        """Once any result exists the task has begun; until then as many engines as the policy asks must be ready."""
        return self._work.begun or self.workers >= self._ledger.project.plan.policy.wait_for_engines

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The chunk's item list."""
        return await self._fetching.items(chunk)

    async def images(
        self, chunk: int, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        """The images, and a word to people when some are not to be had.

        When this machine cannot read where they are (no right to, no room, no way there), it says so, waits a while and
        returns none: the slice is left to others.
        """
        found = await self._fetching.listing(chunk)
        try:
            had = await self._images.of_chunk(chunk, found, wanted, ahead)
        except SourceError as error:
            self._vain = min(self._vain + 1, MOST_VAIN)
            self._say(f"images cannot be read here: {error}")
            await trio.sleep(VAIN_PAUSE * 2**self._vain)
            return {}
        self._vain = 0
        self._say_missing(len(wanted) - len(had))
        return had

    async def given(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Mapping[str, str]]:
        """The canonical answers of the tasks that this one needs, as far as their bodies are here or with a peer."""
        found: dict[int, dict[str, str]] = {index: {} for index in wanted}
        for needed in self._work.task.needs:
            answers = await canonical_answers(self._store, self._network, needed.tid, chunk, found.keys())
            found = {index: said for index, said in found.items() if index in answers}
            for index, said in found.items():
                texts = zip(self._prompts_of(needed.tid), answers[index], strict=True)
                said |= {f"{needed.stage}.{name}": text for name, text in texts if name in needed.prompts}
        return found

    def _prompts_of(self, tid: bytes) -> Sequence[str]:
        return [prompt.name for prompt in self._ledger.works[tid].task.prompts]

    def _say_missing(self, missing: int) -> None:
        if missing:
            self._say(f"{missing} images are with no peer; going on with others, and asking again in a minute")

    async def load(self, hash_: bytes) -> bytes | None:
        """The image's bytes, if they are still here, or with a peer."""
        data = await self._images.load(hash_)
        try:
            return data if data is not None else await self._images.again(hash_)
        except SourceError as error:
            self._say(f"an image cannot be kept here: {error}")
            return None

    async def publish_claim(self, claim: Envelope) -> None:
        """Gossip a claim; it is a hint, so nothing waits for it to arrive."""
        await self._publish("claims", claim)

    async def publish_result(
        self, header: Envelope, result: Result, rows: Sequence[Row], body: Body, evidence: bytes | None
    ) -> None:
        """Commit, then count, then announce. What was redacted meanwhile is not said at all."""
        ledger, id_, author = self._ledger, header.id, header.author
        async with self._change.turn:
            if not ledger.is_wanted(result):
                log.info("not published", chunk=result.chunk, reason="an item of it was redacted")
                return
            writes: list[Write] = [PutBatch(header, result, rows, body.data, self._clock())]
            if evidence is not None and isinstance(result.evidence, bytes):
                writes.append(PutBlob(result.evidence, evidence))
            await self._store.commit(*writes, *put_standing(ledger, [(header, result)]))
            ledger.add(header, result)
            ledger.complete(id_, author, result, error_bits(rows))
        ledger.claims.progress(author, self._clock())
        self._on_rows(rows)
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
