"""A project of any number of equal chunks, made of fixed keys and times: the same arguments make the same bytes."""

import hashlib

from p2pcap.codec import encode
from p2pcap.envelope import seal
from p2pcap.identity import Identity
from p2pcap.ledger.admission import Admitted, Way
from p2pcap.ledger.grants import grant_for
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.project.records import SLICE, Manifest, Plan, Role, Roles, Root, Stage
from p2pcap.project.task import Model, Prompt, Task
from p2pcap.project.ticket import invite

START = 1_800_000_000
"""The simulated unix time at which a run begins."""

END = START + 10_000_000
OWNER, TICKET = (Identity.from_seed(letter * 32) for letter in (b"o", b"t"))


def project_of(chunks: int, slices: int) -> Project:
    """A signed project of `chunks` chunks with `slices` whole slices each."""
    root = seal(OWNER, "root", Root("sim", 1, START, END, (OWNER.public,), Roles(Role((0,)), Role((0,)))))
    hash_ = payload_hash(root)
    table = table_of([Chunk(slices * SLICE, bytes(32), 1)] * chunks)
    plan = encode(Plan("sim", (Stage("caption", Task(Model("sim"), (Prompt("caption", "Describe it."),))),), table))
    manifest = Manifest(hash_[:8], 1, START, END, hashlib.sha256(plan).digest(), len(plan))
    return open_project(root, seal(OWNER, "manifest", manifest), plan, hash_)


def work_of(ledger: Ledger) -> Work:
    """The work on the project's only task."""
    (stage,) = ledger.project.stages
    return ledger.work_of(stage)


def admitted_by_owner(author: bytes) -> Admitted:
    """A coordinator's own grant for `author`, as a ledger keeps it."""
    return Admitted(author, START, author, Way("allowlist", OWNER.public))


def admit(project: Project, author: Identity) -> Grant:
    """The grant that lets `author` write results."""
    return grant_for(author, project.m, "", START, invite(OWNER, project.m, TICKET.public, END))
