"""What a peer of the swarm benchmarks answers: a real ledger with its rules and its digest, kept in memory."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from p2pcap.envelope import Envelope
from p2pcap.ledger.judgement import Judgement as LedgerJudgement
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.project.opened import Project, payload_hash
from p2pcap.swarm.messages import RECONCILE_FRAME, Status
from p2pcap.swarm.service import Judgement, Kind

VERDICTS = {
    Verdict.ACCEPT: Judgement.ACCEPT,
    Verdict.IGNORE: Judgement.IGNORE,
    Verdict.REJECT: Judgement.REJECT,
}


class LedgerService:
    """Implements `p2pcap.swarm.service.Service`. `arrived` says when each statement came in, in unix seconds."""

    def __init__(self, project: Project, contents: Mapping[bytes, bytes] | None = None) -> None:
        self.arrived: dict[bytes, float] = {}
        self._members: set[str] = set()
        self._joined = trio.Event()
        self._ledger = Ledger(project)
        self._held: dict[bytes, bytes] = {}
        self._contents = contents or {}

    async def until(self, members: int) -> None:
        """Wait until so many peers are connected and have told their status."""
        while len(self._members) < members:
            await self._joined.wait()

    def take(self, envelope: Envelope) -> None:
        """Hold a statement of our own."""
        self._judge(envelope.data)

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        """By the rules of the ledger."""
        return VERDICTS[self._judge(data).verdict]

    def _judge(self, data: bytes) -> LedgerJudgement:
        judgement = validate(self._ledger, data, time.time())
        if judgement.verdict is Verdict.ACCEPT and judgement.envelope is not None:
            self._ledger.add(judgement.envelope, judgement.record)
            self._held[judgement.envelope.id] = data
            self.arrived[judgement.envelope.id] = time.time()
        return judgement

    def status(self) -> Status:
        """Of a node that has the project."""
        project = self._ledger.project
        return Status(
            project=project.m,
            root=project.hash,
            manifest_version=project.manifest.version,
            manifest=payload_hash(project.manifest_envelope),
            count=len(self._ledger.index),
            digest=self._ledger.index.digest.to_bytes(32, "big"),
            role="observer",
        )

    def claims(self) -> list[bytes]:
        """None are made."""
        return []

    def reconcile(self, frame: bytes) -> bytes:
        """As a node does."""
        return respond(self._ledger.index, frame, RECONCILE_FRAME)

    async def reconciliation(self, peer: str) -> Reconciliation | None:
        """As a node does."""
        return Reconciliation(self._ledger.index, RECONCILE_FRAME)

    async def chain(self, after: int) -> list[bytes]:
        """Nothing is sealed."""
        return []

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those that are held."""
        return [self._held[id_] for id_ in ids if id_ in self._held]

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        """What the benchmark put there."""
        return self._contents.get(hash)

    async def missing(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those that are not held."""
        return [id_ for id_ in ids if id_ not in self._held]

    async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
        """By the rules of the ledger."""
        rejected = 0
        for data in envelopes:
            rejected += self._judge(data).verdict is Verdict.REJECT
            await trio.lowlevel.checkpoint()
        return rejected

    def on_connect(self, peer: str) -> None:
        """Nothing to do before its status."""

    def on_status(self, peer: str, status: Status) -> None:
        """One more member."""
        self._members.add(peer)
        self._joined.set()
        self._joined = trio.Event()

    def on_disconnect(self, peer: str) -> None:
        """One member less."""
        self._members.discard(peer)
