"""A signed project and signed results in memory, as many as are wanted, without images or captioning."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.body import build_body
from p2pcap.ledger.grants import own_grant
from p2pcap.ledger.records import Answer, Grant, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.items import Item
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import SLICE, Manifest, Plan, Role, Roles, Root, Stage
from p2pcap.project.task import Model, Prompt, Task
from p2pcap.project.ticket import SECRET, Invitation, Ticket
from p2pcap.store.writes import PutBatch

SLICES = 16
"""Slices in a chunk; with 64 images in each, the size of chunk a new project has."""

ITEMS = tuple(Item(f"{item:05}.jpg", hashlib.sha256(b"%d" % item).digest(), 1_000) for item in range(SLICES * SLICE))
"""The images of a chunk. All chunks have the same."""

DAY = 86_400
CAPTION = "a big red circle left of a small green star on a grey background, number"


@dataclass(frozen=True)
class Made:
    """A project, its owner's key and ticket, and the one author who may write results for it, with its grant. `pages`
    are those of its chunk table, by hash."""

    project: Project
    owner: Identity
    author: Identity
    grant: Envelope
    admitted: Grant
    ticket: Ticket
    pages: Mapping[bytes, bytes]

    def ledger(self) -> Ledger:
        """A ledger that has seen nothing yet but the author's grant."""
        ledger = Ledger(self.project)
        ledger.members.take(self.grant, self.admitted)
        return ledger

    def result(self, number: int, root: bytes, length: int, raw: int, mask: bytes) -> tuple[Envelope, Result]:
        """The signed header of the project's slice `number`."""
        chunk, index = divmod(number, SLICES)
        result = Result(
            m=self.project.m,
            tid=self.project.stages[0].task.tid,
            chunk=chunk,
            offset=index * SLICE,
            n=SLICE,
            mask=mask,
            root=root,
            length=length,
            raw=raw,
            tokens=16 * SLICE,
            engine=bytes(8),
            time=int(time.time()),
            nonce=number,
        )
        return seal(self.author, "result", result), result

    def header(self, number: int) -> Envelope:
        """A header whose body does not exist."""
        return self.result(number, hashlib.sha256(b"%d" % number).digest(), 4_000, 8_000, b"\xff" * 8)[0]

    def batch(self, number: int) -> PutBatch:
        """A whole result: 64 captions of ordinary length, signed."""
        first = number % SLICES * SLICE
        rows = [
            Row(item, ITEMS[item].hash, (Answer(f"{CAPTION} {number} {item}", 16, "stop"),))
            for item in range(first, first + SLICE)
        ]
        body = build_body(rows, first)
        envelope, result = self.result(number, body.root, len(body.data), body.raw, body.mask)
        return PutBatch(envelope, result, rows, body.data, time.time())


def make(slices: int) -> Made:
    """A project with room for this many results, signed now."""
    now = int(time.time())
    owner, author = Identity.generate(), Identity.generate()
    root = seal(owner, "root", Root("bench", 1, now, now + DAY, (owner.public,), Roles(Role((0,)), Role((0,)))))
    hash_ = payload_hash(root)
    listed = encode(ITEMS)
    chunk = Chunk(len(ITEMS), hashlib.sha256(listed).digest(), len(listed))
    task = Task(Model("bench"), (Prompt("caption", "Describe it."),))
    pages: list[bytes] = []
    table = table_of([chunk] * -(-slices // SLICES), pages.append)
    plan = encode(Plan("bench", (Stage("caption", task),), table))
    manifest = Manifest(hash_[:8], 1, now, now + DAY, hashlib.sha256(plan).digest(), len(plan))
    project = open_project(root, seal(owner, "manifest", manifest), plan, hash_)
    invitation = Invitation.of(bytes(SECRET), owner, project.m, now + DAY)
    ticket = Ticket("bench", hash_, invitation)
    grant = own_grant(author, ticket, project, "bench", now)
    assert grant is not None
    by_hash = {hashlib.sha256(page).digest(): page for page in pages}
    return Made(project, owner, author, grant, decode(grant.payload, Grant), ticket, by_hash)
