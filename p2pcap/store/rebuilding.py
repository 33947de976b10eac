"""A database made anew from what the old one was given: statements, bodies, item lists and blobs.

Nothing is taken over unchecked: signatures, ids and roles; the plan against the manifest; item lists against the plan;
rows against their root and the item list; checkpoints against each other and their segments. What rulings and
checkpoints make of results comes from a ledger that hears every statement again. Of bodies that were checked once and
not kept, what the node wrote down is taken over if it fits the header. Everything goes through the node's own write
path.

Always holds: the old database is only read. What does not verify is left out and named. Memory does not grow with the
bodies: they pass in groups.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import duckdb
from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError, P2pcapError, StoreError, UntrustedError
from p2pcap.ledger.authority import vouched
from p2pcap.ledger.checkpoint import Checkpoint, Seal, Segment, blob_of, open_segment, open_tiers
from p2pcap.ledger.checks import UNRULED
from p2pcap.ledger.rulings import Redact
from p2pcap.ledger.sealing import seal_of
from p2pcap.ledger.state import Ledger
from p2pcap.project.chunks import Chunks
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import Manifest
from p2pcap.store import reads
from p2pcap.store.bodies import Bodies, item_lists, listed_in
from p2pcap.store.hearing import checkpoint_number, heard, named
from p2pcap.store.known import Known
from p2pcap.store.readers import Readers
from p2pcap.store.transaction import write
from p2pcap.store.writes import (
    Outcome,
    PutBatch,
    PutBlob,
    PutChecked,
    PutItems,
    PutProject,
    PutRedaction,
    PutSeal,
    PutStanding,
    PutStatement,
    Write,
)

GROUP = 512
"""Writes in one transaction: at most some ten megabytes of bodies."""

FETCH = 256
"""Rows taken from the old database at one time."""

OUTCOMES = """
SELECT c.no, c.item, c.tokens, c.error FROM candidate c WHERE EXISTS (SELECT 1 FROM dropped d WHERE d.no = c.no)
ORDER BY c.no, c.item
"""

KINDS = ("grant", "result", "profile", "stamp", "verdict", "ban", "void", "redact", "fork")
"""Statements are heard in this order, in which none has to wait for another; before them the checkpoints, because what
a former key signed counts only where it is sealed."""

Progress = Callable[[str, int, int], None]
"""Told what is being checked, how many of them are done, and how many there are."""


@dataclass
class Rebuilding:
    """From `old` to `new`, which is empty; with `renewal` as one more version of the project. `left_out` names what did
    not verify, `notes` what could not be checked."""

    old: Readers
    new: duckdb.DuckDBPyConnection
    progress: Progress
    renewal: PutProject | None = None
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _known: Known = field(default_factory=Known)

    def run(self) -> None:
        """Do it. Raises StoreError when the project itself does not verify."""
        self._write("blobs", "blob", self._blobs())
        projects = self._projects()
        if not projects:
            return
        newest = max((put.project for put in projects), key=lambda project: project.version)
        ledger, bodies = Ledger(newest), Bodies(self.new, newest.tasks)
        self._write("manifests", "", iter(projects))
        self._write("item lists", "chunk", self._items(newest))
        ledger.vouched = vouched(newest, self._checkpoints())
        self._write("checkpoints", "", self._statements(ledger, ("checkpoint",)))
        self._write("seals", "seal", self._seals(ledger))
        self._write("statements", "statement", self._statements(ledger, KINDS))
        self._write("rulings", "ruled", _standings(ledger))
        self._write("results", "batch", self._bodies(ledger, bodies))
        self._write("results without their bodies", "dropped", self._dropped(ledger))
        if bodies.unlisted:
            self.notes.append(f"{bodies.unlisted} results were checked without their item lists, which are not stored")

    # one kind after another

    def _blobs(self) -> Iterator[Write]:
        for hash_, data in self._rows("SELECT hash, data FROM blob"):
            if blob_of(data).hash == hash_:
                yield PutBlob(hash_, data)
            else:
                self._leave_out(f"blob {hash_.hex()}", "its bytes have another hash")

    def _projects(self) -> list[PutProject]:
        """What every stored manifest that verifies makes of the stored root."""
        query = "SELECT envelope, received FROM statement WHERE kind = ? ORDER BY no"
        roots, manifests = list(self._rows(query, ["root"])), list(self._rows(query, ["manifest"]))
        projects: list[PutProject] = []
        for data, received in manifests:
            try:
                projects.append(PutProject(self._project([root for root, _ in roots], data), received))
            except (UntrustedError, CodecError) as error:
                self._leave_out("a manifest", str(error))
        projects += [self.renewal] if self.renewal is not None else []
        if not projects and self._count("statement"):
            raise StoreError("The project in the database does not verify, so nothing in it can be. Move it away.")
        return projects

    def _project(self, roots: Sequence[bytes], data: bytes) -> Project:
        if not roots:
            raise UntrustedError("The project's root is not stored.")
        root, manifest = open_envelope(roots[0]), open_envelope(data)
        said = decode(manifest.payload, Manifest)
        chain = self._blob(said.roots.hash) if said.roots is not UNSET else None
        return open_project(root, manifest, self._blob(said.plan) or b"", payload_hash(root), chain or b"")

    def _items(self, project: Project) -> Iterator[Write]:
        chunks = project.chunks(lambda page: self._blob(page) or b"")
        rows = self._rows(f"SELECT chunk, {reads.ITEM} FROM item ORDER BY chunk, item")
        for chunk, accepted in item_lists(rows, chunks):
            if accepted is None:
                accepted = self._listed(chunk, chunks)
            if accepted is None:
                self._leave_out(f"the item list of chunk {chunk}", "the plan names another one")
            else:
                yield accepted

    def _listed(self, chunk: int, chunks: Chunks) -> PutItems | None:
        """The list that the blob of a chunk's list says."""
        try:
            return listed_in(self._blob(chunks[chunk].items), chunk, chunks)
        except (UntrustedError, IndexError):
            return None  # its page is not stored, or there is no such chunk

    def _statements(self, ledger: Ledger, kinds: Sequence[str]) -> Iterator[Write]:
        for data, received in self._in_order(kinds):
            envelope, record, fault = heard(ledger, data)
            if envelope is None:
                self._leave_out(named(data), fault)
                continue
            yield PutStatement(envelope, received, ledger.replaced(record, envelope.id, envelope.author))
            if isinstance(record, Redact):
                yield PutRedaction(record.chunk, record.items, ())
            ledger.add(envelope, record)

    def _checkpoints(self) -> Iterator[Envelope]:
        """Those that can be read."""
        for data, _ in self._in_order(("checkpoint",)):
            try:
                yield open_envelope(data)
            except CodecError:
                continue  # what is left out is told when it is heard

    def _in_order(self, kinds: Sequence[str]) -> Iterator[tuple[bytes, float]]:
        for kind in kinds:
            rows = self._rows("SELECT envelope, received FROM statement WHERE kind = ? ORDER BY no", [kind])
            yield from sorted(rows, key=lambda row: checkpoint_number(row[0])) if kind == "checkpoint" else rows

    def _seals(self, ledger: Ledger) -> Iterator[Write]:
        """The checkpoints that the node had taken, in order, as far as they verify."""
        for number, tiers in list(self._rows("SELECT number, tiers FROM seal ORDER BY number")):
            try:
                checkpoint, seal, ids = self._seal(ledger, number, tiers)
            except (P2pcapError, KeyError) as error:
                why = "its statement is not stored" if isinstance(error, KeyError) else str(error)
                self._leave_out(f"checkpoint {number} and those after it", why)
                return
            ledger.seal(checkpoint, seal, ids)
            yield PutSeal(seal, ids)

    def _seal(self, ledger: Ledger, number: int, tiers: bytes) -> tuple[Checkpoint, Seal, list[bytes]]:
        envelope = ledger.checkpoints[number]
        checkpoint = decode(envelope.payload, Checkpoint)
        if blob_of(tiers) != checkpoint.tiers:
            tiers = self._blob(checkpoint.tiers.hash) or b""
        ids = self._sealed(number, checkpoint.segments)
        return checkpoint, seal_of(checkpoint, envelope.payload_hash, open_tiers(tiers)), ids

    def _sealed(self, number: int, segments: Sequence[Segment]) -> list[bytes]:
        """The ids that a checkpoint seals: as the node wrote them down, if that is what the segments name."""
        held = [id_ for (id_,) in self._rows("SELECT id FROM sealed WHERE number = ? ORDER BY rowid", [number])]
        ids: list[bytes] = []
        for segment in segments:
            part = b"".join(held[len(ids) : len(ids) + segment.count])
            fits = blob_of(part).hash == segment.hash
            ids += open_segment(part if fits else self._blob(segment.hash) or b"", segment)
        return ids

    def _bodies(self, ledger: Ledger, bodies: Bodies) -> Iterator[Write]:
        query = """SELECT s.envelope, s.received, b.body FROM batch b JOIN statement s USING (no)
            WHERE s.kind = 'result' AND octet_length(b.body) > 0 ORDER BY b.chunk, b.no"""
        for data, received, body in self._rows(query):
            try:
                envelope = open_envelope(data)
                _, result = ledger.results[envelope.id]
            except (CodecError, KeyError):
                continue  # the statement was left out, and named
            try:
                rows = bodies.rows(result, body)
            except UntrustedError as error:
                self._leave_out(f"the body of {named(data)}", str(error))
            else:
                yield PutBatch(envelope, result, rows, body, received)

    def _dropped(self, ledger: Ledger) -> Iterator[Write]:
        headers = self._rows(
            """SELECT d.no, s.envelope, s.received FROM dropped d JOIN statement s USING (no)
            WHERE s.kind = 'result' ORDER BY d.no"""
        )
        for data, received, outcomes in _joined(headers, self._rows(OUTCOMES)):
            try:
                envelope = open_envelope(data)
                _, result = ledger.results[envelope.id]
            except (CodecError, KeyError):
                continue  # the statement was left out, and named
            if sum(1 << outcome.item for outcome in outcomes) == result.items:
                yield PutChecked(envelope, result, outcomes, received)
            else:
                self._leave_out(f"the rows of {named(data)}", "they are not the items its header covers")

    # reading and writing

    def _write(self, what: str, table: str, writes: Iterator[Write]) -> None:
        total, done = self._count(table) if table else 0, 0
        while group := list(islice(writes, GROUP)):
            write(self.new, self._known, group)
            done += len(group)
            self.progress(what, done, max(total, done))

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        with self.old.lend() as cursor:
            cursor.execute(query, list(values))
            while rows := cursor.fetchmany(FETCH):
                yield from rows

    def _blob(self, hash_: bytes) -> bytes | None:
        with self.old.lend() as cursor:
            return reads.blob(cursor, hash_)

    def _count(self, table: str) -> int:
        return int(next(self._rows(f"SELECT count(*) FROM {table}"))[0])

    def _leave_out(self, what: str, why: str) -> None:
        self.left_out.append(f"{what}: {why.rstrip('.')}")


def _joined(headers: Iterator[Any], rows: Iterator[Any]) -> Iterator[tuple[bytes, float, list[Outcome]]]:
    """Each header with its rows; both come in the order of their numbers."""
    groups = groupby(rows, key=itemgetter(0))
    number, group = next(groups, (-1, iter(())))
    for no, data, received in headers:
        while 0 <= number < no:
            number, group = next(groups, (-1, iter(())))
        yield data, received, [Outcome(*row[1:]) for row in group] if number == no else []


def _standings(ledger: Ledger) -> Iterator[Write]:
    for id_, (author, _) in ledger.results.items():
        ruled = ledger.ruled(id_, author)
        if ruled != UNRULED:
            yield PutStanding(id_, ruled)
