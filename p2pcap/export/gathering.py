"""What proves rows of a project, asked of a node: a running one, or the database of one that has ended.

Always holds: what is gathered does not depend on the node: statements come in the order of their ids. Memory is that of
a page of chunks' statements and of a page of bodies.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import StoreError
from p2pcap.export.present import Present
from p2pcap.export.section import Batch, Chain, Seals
from p2pcap.ledger.body import open_body
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.ledger.leaves import leaf_of
from p2pcap.ledger.records import Grant, Result, Row
from p2pcap.ledger.rulings import Finding
from p2pcap.project.opened import Project, open_project, version_of
from p2pcap.project.records import PAGE, Manifest

T = TypeVar("T")

Select = Callable[[str], Iterable[Any]]
"""Runs a SELECT on a node's database and yields the result as Arrow record batches."""

BODIES = 256
"""Bodies asked for at one time."""

AFTER_GRANTS = ("profile", "ban", "void", "redact")
"""Statements that are heard after checkpoints and grants, so that none has to wait for another."""

CHANGED = "The node's table changed while it was exported, or it does not keep all captions. Export it again."


class Signed(NamedTuple):
    """A result as the node keeps it: its envelope and author, and the items it covers, as bits of the chunk."""

    envelope: bytes
    author: bytes
    items: int


class Gathering:
    """Asks one node. Raises StoreError when it does not hold what is asked for."""

    def __init__(self, select: Select) -> None:
        self._select = select

    @cached_property
    def chain(self) -> Chain:
        """What the project in force is reached by."""
        roots = self._statements("root")
        named = [(decode(envelope.payload, Manifest), envelope) for envelope in self._statements("manifest")]
        if not roots or not named:
            raise StoreError("The node does not have its project yet. Export when it has.")
        manifest, envelope = max(named, key=lambda pair: version_of(pair[0]))
        chain = self._blob(manifest.roots.hash) if manifest.roots is not UNSET else b""
        return Chain(roots[0].data, chain, envelope.data, self._blob(manifest.plan))

    @cached_property
    def project(self) -> Project:
        """The project in force."""
        root, chain = open_envelope(self.chain.root), self.chain
        return open_project(root, open_envelope(chain.manifest), chain.plan, root.payload_hash, chain.roots)

    @cached_property
    def pages(self) -> dict[bytes, bytes]:
        """The pages of the chunk table that are stored, by their hashes."""
        hashes = self.project.plan.chunks.pages
        if not hashes:
            return {}
        return dict(self._rows(f"SELECT hash, data FROM blob WHERE hash IN ({_hashes(hashes)})"))

    def page_of(self, chunk: int) -> bytes | None:
        """The page that names a chunk's item list: empty where the plan does, None where it is not stored."""
        hashes = self.project.plan.chunks.pages
        return self.pages.get(hashes[chunk // PAGE]) if chunk // PAGE < len(hashes) else b""

    def lists(self, chunks: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Those of these chunks whose item lists are stored, with the lists' bytes."""
        table = self.project.chunks(self.pages.__getitem__)
        hashes = {chunk: table[chunk].items for chunk in chunks if self.page_of(chunk) is not None}
        if not hashes:
            return
        query = f"SELECT hash, data FROM blob WHERE hash IN ({_hashes(hashes.values())})"
        found: dict[bytes, bytes] = dict(self._rows(query))
        yield from ((chunk, found[hash_]) for chunk, hash_ in hashes.items() if hash_ in found)

    def signed(self, task: str, chunks: Sequence[int]) -> dict[str, Signed]:
        """All results of a task (its id in hex) about these chunks, by their ids in hex."""
        query = f"""SELECT lower(hex(s.id)), s.envelope, s.author, b.mask, b.first
            FROM batch b JOIN statement s USING (no) JOIN task t USING (task_no)
            WHERE lower(hex(t.tid)) = '{task}' AND b.chunk IN ({", ".join(map(str, chunks))})"""
        return {
            id_: Signed(envelope, author, int.from_bytes(mask, "little") << first)
            for id_, envelope, author, mask, first in self._rows(query)
        }

    def result(self, statement: str) -> tuple[Result, bytes]:
        """The header and body of a result, by its id in hex."""
        query = f"""SELECT s.envelope, b.body FROM batch b JOIN statement s USING (no)
            WHERE s.id = from_hex('{statement}') AND octet_length(b.body) > 0"""
        found = list(self._rows(query))
        if not found:
            raise StoreError(CHANGED)
        return decode(open_envelope(found[0][0]).payload, Result), found[0][1]

    def batches(self, held: Mapping[str, Present], signed: Mapping[str, Signed], task: str) -> Iterator[Batch]:
        """What proves the rows of these results of a task, by their ids in hex."""
        if not held.keys() <= signed.keys():
            raise StoreError(CHANGED)
        needed = bool(self.project.tasks[bytes.fromhex(task)].needs)
        opened = dict(self._opened(held, signed, needed))
        for id_, rows in held.items():
            absent, given = opened.get(id_, (b"", UNSET))
            bad = self._findings.get(bytes.fromhex(id_), UNSET)
            yield Batch(signed[id_].envelope, absent, bytes(rows.marks), given, bad)

    def seals(self) -> Seals:
        """The ids that each checkpoint seals, as far as the node has taken checkpoints."""
        ids: dict[int, list[bytes]] = {}
        for number, id_ in self._rows("SELECT number, id FROM sealed ORDER BY number, rowid"):
            ids.setdefault(number, []).append(id_)
        taken = self._values("SELECT number FROM seal ORDER BY number")
        return tuple((int(number), b"".join(ids.get(number, ()))) for number in taken)

    def statements(self, authors: Collection[bytes], head: int) -> Iterator[bytes]:
        """What says who may write, what he is called, and what was taken back; with the checkpoints up to `head`."""
        checkpoints = {
            decode(envelope.payload, Checkpoint).number: envelope.data for envelope in self._statements("checkpoint")
        }
        yield from (checkpoints[number] for number in sorted(checkpoints) if number <= head)
        for envelope in self._statements("grant"):
            if decode(envelope.payload, Grant).key in authors:
                yield envelope.data
        for kind in AFTER_GRANTS:
            for envelope in self._statements(kind):
                if kind != "profile" or envelope.author in authors:
                    yield envelope.data

    def _opened(
        self, held: Mapping[str, Present], signed: Mapping[str, Signed], needed: bool
    ) -> Iterator[tuple[str, Any]]:
        """What only a body tells, of results that are not wholly in the file, or whose prompts used others' answers:
        the leaf hashes of the absent rows, and what the present ones were given."""
        wanted = [id_ for id_, rows in held.items() if needed or rows.items != signed[id_].items]
        for page in pages(wanted, BODIES):
            ids = _hashes(bytes.fromhex(id_) for id_ in page)
            query = f"SELECT lower(hex(s.id)), b.body FROM batch b JOIN statement s USING (no) WHERE s.id IN ({ids})"
            bodies = dict(self._rows(query))
            for id_ in page:
                if not bodies.get(id_):
                    raise StoreError(CHANGED)
                rows = open_body(bodies[id_], decode(open_envelope(signed[id_].envelope).payload, Result))
                yield id_, (_absent(rows, held[id_].items), _given(rows, held[id_].items, needed))

    @cached_property
    def _findings(self) -> dict[bytes, tuple[bytes, ...]]:
        """All that was found about results of which something was found bad."""
        found: dict[bytes, list[bytes]] = {}
        bad: set[bytes] = set()
        for envelope in self._statements("verdict"):
            finding = decode(envelope.payload, Finding)
            found.setdefault(finding.batch, []).append(envelope.data)
            if finding.verdict == "bad":
                bad.add(finding.batch)
        return {batch: tuple(found[batch]) for batch in sorted(bad)}

    def _statements(self, kind: str) -> list[Envelope]:
        """The stored statements of a kind, in the order of their ids."""
        query = f"SELECT envelope FROM statement WHERE kind = '{kind}' ORDER BY id"
        return [open_envelope(data) for data in self._values(query)]

    def _blob(self, hash_: bytes) -> bytes:
        found = self._values(f"SELECT data FROM blob WHERE hash IN ({_hashes([hash_])})")
        if not found:
            raise StoreError("The node does not hold its project's plan or roots. Run p2pcap fsck.")
        return bytes(found[0])

    def _values(self, query: str) -> list[Any]:
        return [value for (value,) in self._rows(query)]

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        for batch in self._select(query):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def pages(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Runs of at most `size` values."""
    rest = iter(values)
    while page := list(islice(rest, size)):
        yield page


def _absent(rows: Iterable[Row], items: int) -> bytes:
    return b"".join(leaf_of(row) for row in rows if not items >> row.item & 1)


def _given(rows: Iterable[Row], items: int, needed: bool) -> Any:
    return tuple(row.given or b"" for row in rows if items >> row.item & 1) if needed else UNSET


def _hashes(hashes: Iterable[bytes]) -> str:
    return ", ".join(f"from_hex('{hash_.hex()}')" for hash_ in hashes)
