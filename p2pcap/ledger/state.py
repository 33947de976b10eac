"""What one node knows: the statements it holds, and what they add up to.

A `Ledger` is filled from the database at start and from the network after that, in any order. A statement passes it up
to three times: `hear` when it is found valid, which only steers the choice of work; `add` once it is durable, which
makes it part of the set; and, for a result, `complete` once its body is held and checked, which makes its items done.

Always holds: two ledgers to which the same statements, bodies and checkpoints were given are equal in what counts,
whatever the order. `announced` and `covered` may be lies; they steer, and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from p2pcap.envelope import Envelope
from p2pcap.ledger.allowance import RESULTS, RESULTS_PER_SECOND, Allowance
from p2pcap.ledger.checkpoint import Checkpoint, Seal, Seals, Stamp
from p2pcap.ledger.claims import Claims
from p2pcap.ledger.fork import Fork
from p2pcap.ledger.index import Index
from p2pcap.ledger.records import Claim, Grant, Profile, Result
from p2pcap.ledger.rows import Held, Rows
from p2pcap.ledger.rulings import Ban, Finding, Redact, Ruling, Rulings, Void
from p2pcap.ledger.slots import Rank, Slot, slot_of
from p2pcap.project.opened import Project

ANNOUNCED_FOR = 600.0
"""Seconds for which a header without its body keeps others from doing the same items."""


class Ledger:
    """The state that validation and the choice of work read. One owner: the node's main task."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.index = Index()
        self.grants: dict[bytes, Grant] = {}
        self.profiles: dict[bytes, Profile] = {}
        self.checkpoints: dict[int, Envelope] = {}
        self.last_checkpoint: Checkpoint | None = None
        self.forks: dict[tuple[str, int], Fork] = {}
        self.claims = Claims()
        self.rulings = Rulings(project.verifiers_needed)
        self.seals = Seals()
        self.rows = Rows([chunk.count for chunk in project.chunks], project.plan.policy.authors_for_error)
        self.results: dict[bytes, tuple[bytes, Result]] = {}
        self.announced: dict[int, dict[bytes, tuple[int, float, bytes]]] = {}
        self.allowance = Allowance(RESULTS, RESULTS_PER_SECOND)
        self.stamp: Stamp | None = None
        self.covered: dict[int, int] = {}
        self._by_author: dict[bytes, dict[bytes, None]] = {}
        self._tail = Index()
        self._findings: dict[bytes, dict[bytes, int]] = {}
        self._slots: dict[Slot, tuple[Rank, bytes, int]] = {}

    # taking statements in

    def hear(self, envelope: Envelope, record: Any, now: float) -> None:
        """What a valid statement means before it is durable."""
        match record:
            case Claim():
                self.claims.hold(envelope.author, record, envelope.data, now)
            case Result():
                self.announce(envelope.id, envelope.author, record, now)
            case Grant():
                self.grant(record)

    def add(self, envelope: Envelope, record: Any) -> None:
        """A valid statement that is durable: it belongs to the set now."""
        id_, author = envelope.id, envelope.author
        if self.holds(id_) or not self._take_slot(record, id_, author):
            return
        match record:
            case Result():
                self.add_result(id_, author, record)
                return
            case Grant():
                self.grant(record)
            case Profile():
                self.profiles[author] = record
            case Stamp():
                self.stamp = record
            case Checkpoint():
                if record.number in self.checkpoints:
                    return  # never two of one number; the second became a fork
                self.checkpoints[record.number] = envelope
            case Fork():
                self.forks[record.kind, record.number] = record
            case Finding():
                self.rulings.add(id_, author, record)
                self._findings.setdefault(record.batch, {})[id_] = record.time
                self._recount(record.batch)
                if record.batch not in self.index:
                    return
            case Ban() | Void() | Redact():
                self.rulings.add(id_, author, record)
                self._apply(record)
        self._list(record.time, id_, isinstance(record, Profile | Stamp | Fork | Checkpoint))

    def add_result(self, id_: bytes, author: bytes, result: Result) -> None:
        """`add` for a result whose envelope is not at hand."""
        self.results[id_] = (author, result)
        self._by_author.setdefault(author, {})[id_] = None
        self._place(id_, author, result)

    def grant(self, grant: Grant) -> None:
        """Admit an author. Of several grants the newest gives the public name."""
        held = self.grants.get(grant.key)
        if held is None or (grant.time, grant.name) > (held.time, held.name):
            self.grants[grant.key] = grant

    def announce(self, id_: bytes, author: bytes, result: Result, now: float) -> None:
        """A valid header came in; its body is not here yet, so it is no progress of its author's: it may be a lie."""
        self.announced.setdefault(result.chunk, {})[id_] = (result.items, now, author)
        if id_ not in self.seals.by_id:
            self.allowance.take(author, now)

    def complete(self, id_: bytes, author: bytes, result: Result, errors: int) -> None:
        """The body of a header is held and checked: its items have rows. `errors` are those whose row is an error."""
        self.rows.hold(result.chunk, id_, Held(author, result.offset, result.items, errors), self)
        self.forget(id_, result)

    def forget(self, id_: bytes, result: Result) -> None:
        """A header's body came, or proved false: it holds nobody off any more."""
        waiting = self.announced.get(result.chunk, {})
        waiting.pop(id_, None)
        if not waiting:
            self.announced.pop(result.chunk, None)

    def seal(self, checkpoint: Checkpoint, seal: Seal, ids: Iterable[bytes]) -> None:
        """The next checkpoint, with the ids that it seals."""
        sealed = list(ids)
        self.seals.take(seal, sealed)
        self.last_checkpoint = checkpoint
        for id_ in sealed:
            self._tail.remove(self._tail.time_of(id_) or 0, id_)
        for id_ in sealed:
            author, result = self.results.get(id_, (b"", None))
            if result is not None and self.rulings.ban(author) is not None:
                self._place(id_, author, result)
                self._recount(id_)

    # what the set says

    def holds(self, id_: bytes) -> bool:
        """Whether a statement is in the set, or was until a ban took it out."""
        return id_ in self.index or id_ in self.results or self.rulings.has(id_)

    def replaced(self, record: Any, id_: bytes, author: bytes) -> bytes | None:
        """The id of the statement whose slot this one takes, if it does."""
        slot = slot_of(record, id_, author)
        held = self._slots.get(slot[0]) if slot is not None else None
        return held[1] if slot is not None and held is not None and slot[1] > held[0] else None

    def is_stale(self, record: Any, id_: bytes, author: bytes) -> bool:
        """Whether a better statement holds this one's slot."""
        slot = slot_of(record, id_, author)
        held = self._slots.get(slot[0]) if slot is not None else None
        return slot is not None and held is not None and slot[1] <= held[0]

    def unsealed(self) -> Iterator[tuple[int, bytes]]:
        """(time, id) of the statements that a checkpoint can seal and none has, ascending."""
        return iter(self._tail)

    def standing_after(self, id_: bytes, author: bytes, ruling: Ruling) -> dict[bytes, tuple[bool, int]]:
        """What a ruling changes: for each result, known or not, whether it counts then, and its confirmed items."""
        return self._changes(self.rulings.after(id_, author, ruling), self._touched(ruling), {})

    def standing_sealed(self, number: int, ids: Iterable[bytes]) -> dict[bytes, tuple[bool, int]]:
        """What checkpoint `number` would change: results of banned authors that count once they are sealed."""
        banned = [id_ for id_ in ids if id_ in self.results and self.rulings.ban(self.results[id_][0]) is not None]
        return self._changes(self.rulings, banned, dict.fromkeys(banned, number))

    def _touched(self, ruling: Ruling) -> Iterable[bytes]:
        match ruling:
            case Void():
                return ruling.batches
            case Finding():
                return (ruling.batch,)
            case Ban():
                return self._by_author.get(ruling.author, ())
        return ()

    def _changes(
        self, trial: Rulings, ids: Iterable[bytes], sealed: Mapping[bytes, int]
    ) -> dict[bytes, tuple[bool, int]]:
        changes = {}
        for id_ in ids:
            author = self.results[id_][0] if id_ in self.results else b""
            after = trial.counts(id_, author, self.seals.by_id.get(id_, sealed.get(id_))), trial.confirmed(id_)
            if after != (self.counts(id_, author), self.confirmed(id_)):
                changes[id_] = after
        return changes

    def counts(self, id_: bytes, author: bytes) -> bool:
        """Whether a result counts, by all rulings and seals."""
        return self.rulings.counts(id_, author, self.seals.by_id.get(id_))

    def confirmed(self, id_: bytes) -> int:
        """Items of a result that a verifier found to be right, as bits from its offset on."""
        return self.rulings.confirmed(id_)

    def is_wanted(self, result: Result) -> bool:
        """Whether a result's body may be kept: it covers nothing that was redacted."""
        return not result.items & self.rows.redacted(result.chunk)

    def condemned(self, redact: Redact) -> list[bytes]:
        """Ids of results whose bodies a redaction drops."""
        return [id_ for id_, held in self.rows.batches(redact.chunk).items() if held.items & redact.items]

    # what is left to do

    @property
    def done(self) -> Mapping[int, int]:
        """Items with a row here, by chunk."""
        return self.rows.done

    @property
    def by_author(self) -> Mapping[tuple[bytes, int], int]:
        """Items with a row here, by author and chunk."""
        return self.rows.by_author

    @property
    def unfinished(self) -> list[int]:
        """Chunks that still need work, ascending."""
        return self.rows.unfinished

    def missing(self, chunk: int) -> int:
        """The items of `chunk` without a row here, as bits."""
        return self.rows.missing(chunk)

    def open_items(self, chunk: int, now: float, me: bytes = b"") -> int:
        """The items that `me` may do: not settled, not tried by `me`, not lately announced, not sealed elsewhere."""
        if self.rulings.ban(me) is not None:
            return 0  # whatever it did would not count
        bits = self.rows.unsettled(chunk, me) & ~self.covered.get(chunk, 0)
        waiting = self.announced.get(chunk, {}).values()
        late = {author for _, since, author in waiting if now - since >= ANNOUNCED_FOR}
        for items, _, author in waiting:
            if author not in late:  # who left one body out here is not believed about the next
                bits &= ~items
        return bits

    def work_left(self, me: bytes) -> bool:
        """Whether some item still needs the work of `me`; a banned author's work helps nobody."""
        return self.rulings.ban(me) is None and any(self.rows.unsettled(chunk, me) for chunk in self.unfinished)

    def by_author_total(self, author: bytes) -> int:
        """Number of items with a row by `author` here."""
        return sum(items.bit_count() for (who, _), items in self.rows.by_author.items() if who == author)

    @property
    def finished(self) -> bool:
        """Whether every item has a row here or is redacted."""
        return self.rows.complete

    @property
    def items_done(self) -> int:
        """Number of items with a row here."""
        return self.rows.total

    # how rulings reach back

    def _take_slot(self, record: Any, id_: bytes, author: bytes) -> bool:
        slot = slot_of(record, id_, author)
        if slot is None:
            return True
        held = self._slots.get(slot[0])
        if held is not None and held[0] >= slot[1]:
            return False
        if held is not None:
            self.index.remove(held[2], held[1])
        self._slots[slot[0]] = (slot[1], id_, record.time)
        return True

    def _apply(self, ruling: Ban | Void | Redact) -> None:
        match ruling:
            case Void():
                for id_ in ruling.batches:
                    self._recount(id_)
            case Ban():
                for id_ in self._by_author.get(ruling.author, ()):
                    self._place(id_, *self.results[id_])
                    self._recount(id_)
            case Redact():
                for id_ in self.condemned(ruling):
                    self.rows.drop(id_, self)
                self.rows.redact(ruling.chunk, ruling.items, self)
                for id_, (items, _, _) in list(self.announced.get(ruling.chunk, {}).items()):
                    if items & ruling.items and id_ in self.results:
                        self.forget(id_, self.results[id_][1])

    def _place(self, id_: bytes, author: bytes, result: Result) -> None:
        """A result and the verdicts on it: in the index or out of it, as the bans say."""
        place = self._unlist if self._is_banned(id_, author) else self._list
        place(result.time, id_)
        for finding, time in self._findings.get(id_, {}).items():
            place(time, finding)

    def _list(self, time: int, id_: bytes, never_sealed: bool = False) -> None:
        self.index.add(time, id_)
        if not never_sealed and id_ not in self.seals.by_id:
            self._tail.add(time, id_)

    def _unlist(self, time: int, id_: bytes) -> None:
        self.index.remove(time, id_)
        self._tail.remove(time, id_)

    def _is_banned(self, id_: bytes, author: bytes) -> bool:
        return self.rulings.is_banned(author, self.seals.by_id.get(id_))

    def _recount(self, id_: bytes) -> None:
        chunk = self.rows.chunk_of(id_)
        if chunk is not None:
            self.rows.recount(chunk, self)
