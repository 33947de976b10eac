"""Who may write, by the grants that are kept and stand; and what those on probation may.

Always holds: whether an author is admitted follows from the grants kept, the rulings, the checkpoints taken and the
project, and from nothing else.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from p2pcap.envelope import Envelope
from p2pcap.ledger.admission import UNSEALED, Admission, Admitted, Taken
from p2pcap.ledger.allowance import GRANTS, GRANTS_PER_SECOND, Allowance
from p2pcap.ledger.checkpoint import Seals
from p2pcap.ledger.grants import OPEN_TO, admitted
from p2pcap.ledger.records import Grant, Result
from p2pcap.ledger.rulings import Rulings
from p2pcap.project.opened import Project
from p2pcap.project.records import SLICE

NOTHING: Mapping[bytes, int] = {}

PROBATION = 512
"""Captions, neither sealed nor found right, that an author may have who only solved a puzzle (docs/protocol.md,
Admission)."""


class Footing(NamedTuple):
    """How an author stands by his grants."""

    admitted: bool
    on_probation: bool


class Members:
    """The authors of one ledger. `project` is the ledger's, `names` holds each author's newest grant."""

    def __init__(self, project: Project, rulings: Rulings, seals: Seals) -> None:
        self.project = project
        self.kept = Admission()
        self.names: dict[bytes, Grant] = {}
        self._rulings = rulings
        self._seals = seals
        self._joining = Allowance(GRANTS, GRANTS_PER_SECOND)
        self._heard: set[bytes] = set()
        self._unsealed: dict[bytes, dict[bytes, int]] = {}

    # taking grants in

    def hear(self, envelope: Envelope, grant: Grant, now: float) -> None:
        """A valid grant that is not durable yet."""
        self._heard.add(grant.key)
        asking = admitted(envelope.id, envelope.author, grant)
        if self._is_paced(asking):
            self._joining.take(asking.way.ticket, now)

    def take(self, envelope: Envelope, grant: Grant) -> Taken:
        """A valid grant. What it displaces is kept no longer."""
        self._heard.discard(grant.key)
        number = self._seals.by_id.get(envelope.id, UNSEALED)
        taken = self.kept.take(admitted(envelope.id, envelope.author, grant), number)
        held = self.names.get(grant.key)
        if taken.kept and (held is None or (grant.time, grant.name) > (held.time, held.name)):
            self.names[grant.key] = grant  # of several the newest gives the public name
        if taken.displaced is not None and not any(self.kept.of(taken.displaced.author)):
            self.names.pop(taken.displaced.author, None)
        return taken

    # who is in

    def stands(
        self, grant: Admitted, number: int, rulings: Rulings | None = None, project: Project | None = None
    ) -> bool:
        """Whether a grant admits its author: neither is its ticket revoked, nor its signer's key replaced, and the
        project admits in this way, or did when a checkpoint sealed it. `number` is that checkpoint's, or UNSEALED."""
        way, sealed, project = grant.way, number if number != UNSEALED else None, project or self.project
        if way.ticket and (rulings or self._rulings).is_banned(way.ticket, sealed):
            return False
        if way.signer and way.signer not in project.coordinators:
            former = project.former.get(way.signer)
            return former is not None and number <= former.checkpoint
        return sealed is not None or way.mode in OPEN_TO[project.plan.policy.admits]

    def is_admitted(
        self,
        author: bytes,
        rulings: Rulings | None = None,
        sealed: Mapping[bytes, int] = NOTHING,
        project: Project | None = None,
    ) -> bool:
        """Whether the author holds a grant that stands; by other `rulings`, or with those grants `sealed` too whose ids
        are there with a checkpoint's number, or by another version of the `project`."""
        return any(
            self.stands(grant, min(number, sealed.get(grant.id, UNSEALED)), rulings, project)
            for grant, number in self.kept.of(author)
        )

    def was_admitted(self, author: bytes, time: int) -> bool:
        """Whether the author holds a grant that stands and is sealed, or is as old as `time` (unix seconds)."""
        return any(
            self.stands(grant, number) and (number != UNSEALED or grant.time <= time)
            for grant, number in self.kept.of(author)
        )

    def footing(self, author: bytes) -> Footing:
        """Whether the author is admitted, and whether on probation."""
        return Footing(self.is_admitted(author), self.is_on_probation(author))

    def footings(self, authors: Iterable[bytes]) -> dict[bytes, Footing]:
        """The same of each of these authors."""
        return {author: self.footing(author) for author in authors}

    def knows(self, author: bytes) -> bool:
        """Whether the author is admitted, or will be once its grant is durable."""
        return author in self._heard or self.is_admitted(author)

    def refusal(self, grant: Admitted, now: float) -> str:
        """Why a grant is not taken in now, whoever signed it; empty when it is. A checkpoint may change that."""
        number = self._seals.by_id.get(grant.id, UNSEALED)
        if not self.stands(grant, number):
            return "not admitted in this way, or not any more"
        if not self.kept.would_keep(grant, number):
            return "as many as may have joined so, or its author has"
        return "too many grants" if self._is_paced(grant) and not self._joining.may(grant.way.ticket, now) else ""

    def _is_paced(self, grant: Admitted) -> bool:
        return grant.way.mode != "allowlist" and grant.id not in self._seals.by_id

    def is_banned(self, author: bytes) -> bool:
        """Whether a ban names the author."""
        return self._rulings.ban(author) is not None

    def may_work(self, author: bytes) -> bool:
        """Whether what the author does next would count."""
        room = self.room(author)
        return not self.is_banned(author) and self.is_admitted(author) and (room is None or room >= SLICE)

    # probation

    def is_on_probation(
        self,
        author: bytes,
        rulings: Rulings | None = None,
        sealed: Mapping[bytes, int] = NOTHING,
        project: Project | None = None,
        tiers: Mapping[bytes, int] | None = None,
    ) -> bool:
        """Whether the author came in by the puzzle and in no other way, and no checkpoint gave it a tier above 0; or
        whether that holds as for `is_admitted`, and with the `tiers` of another newest checkpoint."""
        if (self._seals.tier(author) if tiers is None else tiers.get(author, 0)) > 0:
            return False
        ways = [
            grant.way.mode
            for grant, number in self.kept.of(author)
            if self.stands(grant, min(number, sealed.get(grant.id, UNSEALED)), rulings, project)
        ]
        return bool(ways) and all(mode == "open" for mode in ways)

    def saw(self, author: bytes, id_: bytes, result: Result) -> None:
        """A result of the author's, heard of or durable."""
        if id_ not in self._seals.by_id and self.is_on_probation(author):
            self._unsealed.setdefault(author, {})[id_] = result.items.bit_count()

    def settled(self, author: bytes, id_: bytes) -> None:
        """A checkpoint seals a result of the author's, or a verifier found it right."""
        self._unsealed.get(author, {}).pop(id_, None)

    def room(self, author: bytes) -> int | None:
        """How many more captions the author may have that nobody sealed nor found right; None: any number."""
        if not self.is_on_probation(author):
            return None
        return PROBATION - sum(self._unsealed.get(author, {}).values())
