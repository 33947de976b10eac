"""The surroundings of an audit, filled in by the node: rows and evidence from peers, images, and findings told.

Always holds: whatever a peer hands over is checked against the hash that was asked for before it is used; nothing is
asked of anybody for longer than WITHIN seconds.
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import structlog
import trio
from msgspec import UNSET

from p2pcap.audit.checking import Shown
from p2pcap.audit.sampling import SECRET_BYTES
from p2pcap.audit.watching import Watch
from p2pcap.envelope import Envelope
from p2pcap.errors import ImageError, Misdescribed, SourceError, StoreError, UntrustedError
from p2pcap.identity import peer_id_of, public_of
from p2pcap.ledger.body import check_rows, described, open_rows
from p2pcap.ledger.evidence import MAX_EVIDENCE, Ids, open_evidence
from p2pcap.ledger.given import given_hash
from p2pcap.ledger.records import MAX_RAW, Result, Row
from p2pcap.ledger.rulings import Finding
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import Fetching, hash_holds
from p2pcap.node.images import Images
from p2pcap.node.intake import Intake
from p2pcap.node.seams import Clock, LedgerStore
from p2pcap.node.submitting import submit
from p2pcap.swarm.service import Kind
from p2pcap.swarm.swarm import Swarm

WITHIN = 30.0
"""Seconds for a peer to hand over a body, or an author his evidence."""

PAUSE = 1.0
"""Seconds, at least, between two looks at what others found: findings come several at a time."""

LAZY, UNTIL_TOLD = 4, 64
"""A verifier who has looked at less than one in so many of the items that this one has, some to begin with not counted,
takes no part of the work off it: else one who never looks would halve what is looked at."""

STEP = 64
"""Results drawn from at one time: some milliseconds."""

log = structlog.get_logger()

Given = Mapping[int, Mapping[str, str]]
"""Answers of other tasks that one uses, by item."""


class GivenTo(Protocol):
    """What a task uses of others."""

    async def given(self, chunk: int, wanted: Sequence[int]) -> Given:
        """See p2pcap.worker.station.Station.given."""


class Company:
    """Implements `p2pcap.audit.watching.Company`: what the connected peers say of themselves."""

    def __init__(self, me: bytes, ledger: Ledger, swarm: Swarm) -> None:
        self._me = me
        self._ledger = ledger
        self._swarm = swarm

    def _ready(self) -> list[bytes]:
        """The keys of connected peers whose engines are ready."""
        peers = self._swarm.peers()
        return [public_of(peer.peer_id) for peer in peers if peer.status is not None and peer.status.engine_ready]

    @property
    def engines(self) -> int:
        """Ready engines, this node's included."""
        return 1 + len(self._ready())

    @property
    def verifiers(self) -> int:
        """Verifiers whose engines are ready and who do look, this node included if it is one."""
        ready = {*self._ready(), self._me} & self._ledger.project.verifiers
        looked = self._ledger.verdicts.looked_at
        return sum(key == self._me or LAZY * looked(key) >= looked(self._me) - UNTIL_TOLD for key in ready)


class AuditStation:
    """Implements `p2pcap.audit.station.AuditStation`."""

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        swarm: Swarm,
        fetching: Fetching,
        images: Images,
        intake: Intake,
        change: Change,
        clock: Clock,
        given_to: Callable[[bytes], GivenTo],
    ) -> None:
        """`given_to` a task, by its id, says what it uses of others' answers."""
        self._ledger = ledger
        self._store = store
        self._swarm = swarm
        self._fetching = fetching
        self._images = images
        self._intake = intake
        self._change = change
        self._clock = clock
        self._given_to = given_to

    async def rows(self, id_: bytes, result: Result) -> Sequence[Row] | None:
        """From the store, or from a peer."""
        data = await self._store.body(result.root)
        if data is None:
            data = await self._fetched("body", result.root, None, MAX_RAW)
        if data is None:
            return None
        try:
            rows = described(open_rows(data), result)
            with trio.move_on_after(WITHIN) as waiting:
                items = await self._fetching.items(result.chunk)
            if waiting.cancelled_caught:
                return None
            check_rows(rows, result, items, self._ledger.works[result.tid].task)
        except Misdescribed:
            return ()  # void on every node that looks at it
        return rows

    async def evidence(self, author: bytes, result: Result) -> Mapping[int, Ids] | None:
        """From the author alone: nobody else has it."""
        if result.evidence is UNSET:
            return {}
        peer = peer_id_of(author)
        if not await self._swarm.reach(peer):
            return None
        data = await self._fetched("blob", result.evidence, [peer], MAX_EVIDENCE)
        if data is None:
            return None
        try:
            return await trio.to_thread.run_sync(open_evidence, data)
        except UntrustedError as error:
            log.info("evidence refused", author=author.hex(), reason=str(error))
            return {}

    async def _fetched(self, kind: Kind, hash_: bytes, peers: Sequence[str] | None, cap: int) -> bytes | None:
        verify = _is_body if kind == "body" else hash_holds
        with trio.move_on_after(WITHIN):
            async with aclosing(self._swarm.fetch(kind, [hash_], peers, verify, cap)) as arriving:
                async for _, data in arriving:
                    return data
        return None

    async def images(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Shown | ImageError]:
        """As a worker gets them."""
        found = await self._fetching.listing(chunk)
        try:
            had = await self._images.of_chunk(chunk, found, wanted, ())
        except SourceError as error:
            log.info("images cannot be read", chunk=chunk, reason=str(error))
            return {}
        shown: dict[int, Shown | ImageError] = {}
        for place, image in had.items():
            if isinstance(image, ImageError):
                shown[place] = image
            elif (data := image.data or await self._images.load(image.hash)) is not None:
                shown[place] = Shown(image.hash, data)
        return shown

    async def values(self, result: Result, rows: Sequence[Row]) -> Given:
        """What the dataset says of the images, and the canonical answers of the tasks that this one needs: of rows that
        say that they used just these."""
        items = await self._fetching.items(result.chunk)
        if not self._ledger.works[result.tid].task.needs:
            return {row.item: items[row.item].metadata for row in rows}
        given = await self._given_to(result.tid).given(result.chunk, [row.item for row in rows])
        same = {row.item for row in rows if row.item in given and row.given in (UNSET, given_hash(given[row.item]))}
        return {item: {**items[item].metadata, **given[item]} for item in same}

    async def publish(self, envelope: Envelope, finding: Finding) -> None:
        """Taken in like the maintainer's own statements."""
        outcome = await submit(self._ledger, self._intake, self._swarm, envelope.data, self._clock())
        items = int.from_bytes(finding.items, "little").bit_count()
        said = {"verdict": finding.verdict, "method": finding.method, "items": items}
        log.info("finding", result=finding.batch.hex(), refused=outcome.reason, **said)

    async def changed(self) -> None:
        """Wait for news."""
        await self._change.wait()


async def keep_looking(watch: Watch, ledger: Ledger, found: Change, change: Change, clock: Clock) -> None:
    """Choose from what is here, and again whenever something was `found`, as long as the node runs; `change` is told
    when there may be more to check."""
    await look_at_all(watch, ledger, clock)
    while True:
        seen = found.count
        watch.look_again(clock())
        change.tell()
        await trio.sleep(PAUSE)
        if found.count == seen:
            await found.wait()


async def look_at_all(watch: Watch, ledger: Ledger, clock: Clock) -> None:
    """Draw from every result whose body is, or was, here; others have their turn meanwhile."""
    ids = list(ledger.results)
    for start in range(0, len(ids), STEP):
        for id_ in ids[start : start + STEP]:
            if ledger.held(id_) is not None:
                watch.look(id_, clock())
        await trio.lowlevel.checkpoint()


def own_secret(path: Path) -> bytes:
    """The secret by which a node draws what it checks: from `path`, or a new one, which is kept there. Raises
    StoreError when the file can neither be read nor written."""
    try:
        held = path.read_bytes() if path.exists() else b""
        if len(held) == SECRET_BYTES:
            return held
        made = secrets.token_bytes(SECRET_BYTES)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as writing:
            writing.write(made)
        return made
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}. Check the folder and its owner.") from error


def _is_body(root: bytes, data: bytes) -> bool:
    try:
        return open_rows(data).root == root
    except UntrustedError:
        return False
