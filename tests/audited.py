"""Builders of projects whose answers are checked, and of what verifiers say of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import UNSET, structs

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Finding
from p2pcap.project.audit import Audit, Bound, Honest, Limits
from p2pcap.project.opened import Project
from p2pcap.project.records import SLICE, Plan, Policy, Stage
from tests.makers import NOW, POLICY, TASK, Made, make_project, make_result, signed

BOUND = Bound(1_000, 10_000, 0)
AUDIT = Audit("tokens", Honest(5_000, 0, 0), (), 4, (Limits(5_000, BOUND, BOUND, BOUND),))
"""Four bad items in a thousand checks make a ban."""


@dataclass(frozen=True)
class Audited(Made):
    """A project with everything that hangs under its manifest."""

    def again(self, plan: Plan, version: int = 2) -> Project:
        """The same project under another plan."""
        return signed(plan, version)


def audited(
    counts: Sequence[int], policy: Policy = POLICY, verifiers: Sequence[bytes] = (), audit: Audit = AUDIT
) -> Audited:
    """A project with a chunk of each of these numbers of images, whose one stage is checked."""
    made = make_project(counts, policy=policy)
    stages = (Stage("caption", TASK, audit=audit),)
    plan = structs.replace(made.project.plan, stages=stages, verifiers=tuple(verifiers) or UNSET)
    return Audited(signed(plan), made.items)


def slice_of(made: Made, author: Identity, chunk: int, number: int, time: int = NOW) -> Envelope:
    """The author's result for a whole slice of a chunk."""
    items = range(number * SLICE, (number + 1) * SLICE)
    result, _ = make_result(made.project, chunk, [made.row(chunk, item) for item in items], time)
    return seal(author, "result", result)


def finding(by: Identity, result: Envelope, verdict: str, items: int, time: int = NOW) -> Envelope:
    """A word on items of a result, as bits from its offset on."""
    m = decode(result.payload, Result).m
    record = Finding(m, result.id, items.to_bytes(8, "little"), verdict, "tokens", b"", time)
    return seal(by, "verdict", record)
