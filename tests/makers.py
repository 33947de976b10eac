"""Builders of small, complete, really signed things: identities, a project, grants, claims, results.

Always holds: the same arguments make the same bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger import grants
from p2pcap.ledger.body import Body, build_body
from p2pcap.ledger.records import Answer, Claim, ClaimedChunk, Grant, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.items import Item
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import SLICE, Manifest, Plan, Policy, Role, Roles, Root, Stage
from p2pcap.project.task import Model, Prompt, Task
from p2pcap.project.ticket import Invitation, Ticket, invite, key_of

NOW = 1_800_000_000
FOREVER = NOW + 10_000_000

ROOT_KEY = Identity.from_seed(b"r" * 32)
COORDINATOR = Identity.from_seed(b"c" * 32)
TICKET_SECRET = b"t" * 16
TICKET_KEY = key_of(TICKET_SECRET)
POLICY = Policy()
NO_PAGES: dict[bytes, bytes] = {}
TASK = Task(Model("tiny"), (Prompt("caption", "What is it?"),))

ADA, BOB, EVE = (Identity.from_seed(letter * 32) for letter in (b"a", b"b", b"e"))


def image_bytes(chunk: int, index: int) -> bytes:
    return b"image %d of chunk %d" % (index, chunk)


def item(chunk: int, index: int) -> Item:
    data = image_bytes(chunk, index)
    return Item(f"photos/{chunk:03}/{index:05}.png", hashlib.sha256(data).digest(), len(data))


@dataclass(frozen=True)
class Made:
    """A project with everything that hangs under its manifest."""

    project: Project
    items: tuple[tuple[Item, ...], ...]

    @property
    def images(self) -> dict[bytes, bytes]:
        """Every image by its hash."""
        return {
            listed.hash: image_bytes(chunk, index)
            for chunk, items in enumerate(self.items)
            for index, listed in enumerate(items)
        }

    def row(self, chunk: int, index: int, text: str = "a red circle") -> Row:
        return Row(index, self.items[chunk][index].hash, (Answer(text, 4, "stop"),))

    def error(self, chunk: int, index: int) -> Row:
        return Row(index, self.items[chunk][index].hash, (), "undecodable", "the bytes are no image")


def root_of(name: str = "Shapes") -> Envelope:
    roles = Roles(Role((0,)), Role((1,)))
    return seal(ROOT_KEY, "root", Root(name, 1, NOW, FOREVER, (ROOT_KEY.public, COORDINATOR.public), roles))


def manifest_of(root: Envelope, plan: bytes, signer: Identity = COORDINATOR, version: int = 1) -> Envelope:
    m = payload_hash(root)[:8]
    return seal(signer, "manifest", Manifest(m, version, NOW, FOREVER, hashlib.sha256(plan).digest(), len(plan)))


def chunk_of(items: Sequence[Item]) -> Chunk:
    data = encode(items)
    return Chunk(len(items), hashlib.sha256(data).digest(), len(data))


def chunks_of(project: Project) -> list[Chunk]:
    """The chunks of a project whose table has no pages."""
    return [*project.chunks(NO_PAGES.__getitem__)]


def make_project(counts: Sequence[int] = (128, 100), name: str = "Shapes", policy: Policy = POLICY) -> Made:
    """A project with a chunk of each of these numbers of images, and one prompt."""
    items = tuple(tuple(item(chunk, index) for index in range(count)) for chunk, count in enumerate(counts))
    chunks = table_of(chunk_of(listed) for listed in items)
    return Made(signed(Plan(name, (Stage("caption", TASK),), chunks, policy)), items)


def signed(plan: Plan, version: int = 1) -> Project:
    """The project that a manifest of this version makes of a plan. Plans of one title are of one project."""
    root, data = root_of(plan.title), encode(plan)
    return open_project(root, manifest_of(root, data, version=version), data, payload_hash(root))


def task_of(project: Project) -> Task:
    """The task of a project that has one."""
    (stage,) = project.stages
    return stage.task


def work_of(ledger: Ledger) -> Work:
    """The work of a ledger whose project has one task."""
    return ledger.works[task_of(ledger.project).tid]


def make_grant(project: Project, author: Identity, name: str = "", time: int = NOW, expires: int = FOREVER) -> Envelope:
    invitation = invite(COORDINATOR, project.m, TICKET_KEY.public, expires)
    return seal(TICKET_KEY, "grant", grants.grant_for(author, project.m, name, time, invitation))


def make_ticket(project: Project, addresses: Sequence[str] = ()) -> Ticket:
    invitation = Invitation.of(TICKET_SECRET, COORDINATOR, project.m, FOREVER)
    return Ticket(project.title, project.hash, invitation, tuple(addresses))


def claim_record(
    project: Project, chunks: Mapping[int, int], nonce: int = 1, time: int = NOW, seconds: int = 10, stage: int = 0
) -> Claim:
    """`chunks` gives the slices of each claimed chunk, as bits."""
    claimed = tuple(
        ClaimedChunk(chunk, bits.to_bytes(32, "little").rstrip(b"\0") or b"\0") for chunk, bits in chunks.items()
    )
    return Claim(project.m, project.stages[stage].task.tid, claimed, nonce, time, seconds)


def make_result(
    project: Project, chunk: int, rows: Sequence[Row], time: int = NOW, nonce: int = 1, stage: int = 0
) -> tuple[Result, Body]:
    """The header and body of `rows`, which lie within one slice."""
    offset = rows[0].item // SLICE * SLICE
    body = build_body(rows, offset)
    result = Result(
        m=project.m,
        tid=project.stages[stage].task.tid,
        chunk=chunk,
        offset=offset,
        n=min(SLICE, project.counts[chunk] - offset),
        mask=body.mask,
        root=body.root,
        length=len(body.data),
        raw=body.raw,
        tokens=sum(answer.tokens for row in rows for answer in row.answers),
        engine=b"engine00",
        time=time,
        nonce=nonce,
    )
    return result, body


def ledger_of(project: Project, *authors: Identity) -> Ledger:
    """A ledger in which these authors are admitted, or Ada, Bob and Eve."""
    ledger = Ledger(project)
    for author in authors or (ADA, BOB, EVE):
        admit(ledger, make_grant(project, author))
    return ledger


def admit(ledger: Ledger, grant: Envelope) -> None:
    """Let a grant's author in, without the grant's being a statement of the set."""
    ledger.members.take(grant, decode(grant.payload, Grant))
