"""Following the chain of checkpoints: what each seals is worked out or fetched, made durable, and then counted.

A node that was there has what a checkpoint seals, and derives its segments. One that joins gets the chain first, then
the ids that each checkpoint seals, and the coverage map, which keeps it off what is done; the statements follow from
several peers at a time, and only the tail is left to reconciliation.

Always holds: checkpoints are taken in order, each after it is committed; a segment or map is used only when it has the
hash that its checkpoint signs.
"""

from collections.abc import Iterable, Sequence
from itertools import starmap

import structlog
import trio

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError, RequestFailed, SwarmError, UntrustedError
from p2pcap.ledger.authority import last_named, vouched
from p2pcap.ledger.checkpoint import Blob, Checkpoint, Segment, open_coverage, open_segment, open_tiers, tiers_blob
from p2pcap.ledger.sealing import NOBODY, derived, seal_of
from p2pcap.ledger.standing import after_seal
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import Fetching
from p2pcap.node.intake import Intake
from p2pcap.node.seams import LedgerStore, Network
from p2pcap.store.writes import DropBlobs, PutBlob, PutSeal, PutStanding, Write

PAGE = 256
"""Statements asked for at a time (the protocol's limit)."""

ASKING = 4
"""Pages asked for side by side."""

RETRY = 5.0
"""Seconds until a segment that nobody has is asked for again."""

CATCH_UP = 300.0
"""Seconds for a bulk join from one peer."""

BULK = 64
"""Statements missing from which on a node keeps off what the coverage map says is done."""

log = structlog.get_logger()


class Checkpoints:
    """Takes the checkpoints that the ledger holds, one after the other. `refused` says why it stopped, if it did."""

    def __init__(
        self, ledger: Ledger, store: LedgerStore, network: Network, fetching: Fetching, intake: Intake, change: Change
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._network = network
        self._fetching = fetching
        self._intake = intake
        self._change = change
        self._turn = trio.Lock()
        self.refused = ""

    async def run(self) -> None:
        """Take each checkpoint that comes, as long as the node runs."""
        while True:
            await self.advance()
            await self._intake.ruled.wait()

    async def advance(self) -> None:
        """Take the checkpoints that are known, in order."""
        async with self._turn:
            while not self.refused and (envelope := self._ledger.checkpoints.get(self._ledger.seals.head + 1)):
                try:
                    await self._take(envelope)
                except UntrustedError as error:
                    self.refused = f"checkpoint {self._ledger.seals.head + 1} is not what its hashes promise: {error}"
                    log.error("checkpoint refused", number=self._ledger.seals.head + 1, reason=str(error))
                    self._change.tell()

    async def catch_up(self, peer: str) -> None:
        """Get from `peer` the chain that this node lacks, and in bulk what it seals, within CATCH_UP seconds.

        What cannot be had by then is left to reconciliation. Raises SwarmError.
        """
        told = [info.status for info in self._network.peers() if info.peer_id == peer]
        before = self._ledger.seals.head
        if all(status is None or status.checkpoint <= before for status in told):
            return
        with trio.move_on_after(CATCH_UP):
            await self.get_chain(peer)
            await self.advance()
            if self._ledger.seals.head > before:
                await self._fetch_sealed()

    async def get_chain(self, peer: str) -> None:
        """Get the checkpoints that `peer` holds and this node does not. Raises SwarmError."""
        if not await self._get_named(peer):
            return
        while page := await self._network.chain(peer, max(self._ledger.checkpoints, default=0)):
            held = len(self._ledger.checkpoints)
            received = await self._intake.receive(page)
            if received.rejected:
                raise RequestFailed(f"Peer {peer} handed over {received.rejected} checkpoints that are not valid.")
            if len(self._ledger.checkpoints) == held:
                return

    async def _get_named(self, peer: str) -> bool:
        """Get the chain up to the last checkpoint that the root names: it can be judged only as a whole, from there
        downwards (p2pcap.ledger.authority). Returns whether it is here then. Raises SwarmError."""
        last, at = last_named(self._ledger.project), max(self._ledger.checkpoints, default=0)
        if at >= last:
            return True
        got: list[Envelope] = []
        while at < last and (page := await self._network.chain(peer, at)):
            numbers, envelopes = zip(*map(_numbered, page), strict=True)
            if [at, *numbers] != sorted({at, *numbers}):
                raise RequestFailed(f"Peer {peer} handed over checkpoints that were not asked for.")
            at = max(numbers)
            got += envelopes
        self._ledger.vouched |= vouched(self._ledger.project, got)
        for start in range(0, len(got), PAGE):
            await self._intake.receive([envelope.data for envelope in got[start : start + PAGE]])
        return max(self._ledger.checkpoints, default=0) >= last

    async def _take(self, envelope: Envelope) -> None:
        checkpoint = decode(envelope.payload, Checkpoint)
        tiers = await self._had(checkpoint.tiers) if checkpoint.tiers != NOBODY else tiers_blob({})
        parts = [await self._segment(segment) for segment in checkpoint.segments]
        ids = [id_ for part, _ in parts for id_ in part]
        seal = seal_of(checkpoint, envelope.payload_hash, open_tiers(tiers))
        writes: list[Write] = [
            PutBlob(segment.hash, data) for segment, (_, data) in zip(checkpoint.segments, parts, strict=True)
        ]
        async with self._change.turn:
            writes += starmap(PutStanding, after_seal(self._ledger, seal, ids).items())
            await self._store.commit(PutSeal(seal, ids), *writes)
            last = self._ledger.last_checkpoint
            self._ledger.seal(checkpoint, seal, ids)
        if last is not None and last.coverage != checkpoint.coverage:
            await self._store.commit(DropBlobs([last.coverage.hash]))
        log.info("checkpoint", number=checkpoint.number, sealed=len(ids))
        self._change.tell()
        if checkpoint.number == max(self._ledger.checkpoints):
            await self._keep_coverage(checkpoint.coverage)

    async def _keep_coverage(self, blob: Blob) -> None:
        """Hold the newest map for those who join later, if it can be had now."""
        with trio.move_on_after(RETRY):
            data = await self._fetching.now(blob.hash, blob.length)
            if data is not None:
                await self._store.commit(PutBlob(blob.hash, data))

    async def _segment(self, segment: Segment) -> tuple[list[bytes], bytes]:
        """The ids in a segment: worked out, or from a peer, whichever succeeds first; waits as long as it takes."""
        while True:
            ids = derived(self._ledger, segment)
            if ids is not None:
                return ids, b"".join(ids)
            data = await self._fetching.now(segment.hash, 32 * segment.count)
            if data is not None:
                return open_segment(data, segment), data
            await trio.sleep(RETRY)

    async def _had(self, blob: Blob) -> bytes:
        """The blob, from here or from a peer; waits as long as it takes."""
        while True:
            data = await self._fetching.now(blob.hash, blob.length)
            if data is not None:
                return data
            await trio.sleep(RETRY)

    # in bulk

    async def _fetch_sealed(self) -> None:
        missing = [id_ for id_ in self._ledger.seals.by_id if not self._ledger.holds(id_)]
        if len(missing) < BULK:
            return
        try:
            await self._cover()
            await self._fetch_all(missing)
        finally:
            self._ledger.cover({})
            self._change.tell()

    async def _cover(self) -> None:
        checkpoint = self._ledger.last_checkpoint
        assert checkpoint is not None
        try:
            data = await self._fetching.now(checkpoint.coverage.hash, checkpoint.coverage.length)
            if data is None:
                return  # without it, what is sealed may be done again until its header is here
            self._ledger.cover(open_coverage(data, self._ledger.project.counts))
        except UntrustedError as error:
            log.warning("coverage refused", reason=str(error))
        self._change.tell()

    async def _fetch_all(self, missing: Sequence[bytes]) -> None:
        pages = [missing[start : start + PAGE] for start in range(0, len(missing), PAGE)]
        send, receive = trio.open_memory_channel[Sequence[bytes]](len(pages))
        for page in pages:
            send.send_nowait(page)
        send.close()
        async with trio.open_nursery() as nursery:
            for number in range(ASKING):
                nursery.start_soon(self._fetch_pages, number, receive.clone())
        receive.close()

    async def _fetch_pages(self, number: int, pages: "trio.MemoryReceiveChannel[Sequence[bytes]]") -> None:
        async with pages:
            async for page in pages:
                await self._fetch_page(number, page)

    async def _fetch_page(self, number: int, page: Sequence[bytes]) -> None:
        """Ask one peer after the other, each worker beginning with another, until somebody has the page."""
        peers = [peer.peer_id for peer in self._network.peers()]
        for peer in _from(peers, number):
            try:
                envelopes = await self._network.statements(peer, page)
            except SwarmError as error:
                log.debug("page not had", peer=peer, reason=str(error))
                continue
            await self._intake.receive(envelopes)
            if all(self._ledger.holds(id_) for id_ in page):
                return


def _from(peers: Sequence[str], number: int) -> Iterable[str]:
    start = number % len(peers) if peers else 0
    return [*peers[start:], *peers[:start]]


def _numbered(data: bytes) -> tuple[int, Envelope]:
    """A checkpoint with its number. Raises RequestFailed for what is none."""
    try:
        envelope = open_envelope(data)
        return decode(envelope.payload, Checkpoint).number, envelope
    except CodecError as error:
        raise RequestFailed(f"A peer handed over what is no checkpoint: {error}") from error
