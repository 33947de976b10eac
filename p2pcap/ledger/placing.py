"""Which statements belong to the set that nodes compare, and which of them a checkpoint may seal.

Always holds: a statement is in the index when everything that was said lets it stay, whatever came first. What is in
the tail is in the index too, and no checkpoint has sealed it.
"""

from collections.abc import Iterator

from p2pcap.ledger.checkpoint import Seals
from p2pcap.ledger.checks import Word
from p2pcap.ledger.counting import Counting
from p2pcap.ledger.index import Index
from p2pcap.ledger.members import Members
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Finding, Rulings
from p2pcap.ledger.slots import Rank, Slot, slot_of
from p2pcap.ledger.verdicts import word_of


class Placing:
    """`index` holds the ids of the set, `tail` those that no checkpoint has sealed."""

    def __init__(self, rulings: Rulings, seals: Seals, members: Members, counting: Counting) -> None:
        self.index = Index()
        self.tail = Index()
        self._rulings = rulings
        self._seals = seals
        self._members = members
        self._counting = counting
        self._slots: dict[Slot, tuple[Rank, bytes, int]] = {}

    # statements by themselves

    def put(self, time: int, id_: bytes, never_sealed: bool = False) -> None:
        """It belongs to the set."""
        self.index.add(time, id_)
        if never_sealed or id_ in self._seals.by_id:
            self.tail.remove(time, id_)
        else:
            self.tail.add(time, id_)

    def take_out(self, time: int, id_: bytes) -> None:
        """It does not."""
        self.index.remove(time, id_)
        self.tail.remove(time, id_)

    def seal(self, id_: bytes) -> None:
        """A checkpoint has sealed it."""
        self.tail.remove(self.tail.time_of(id_) or 0, id_)

    # slots

    def take_slot(self, record: object, id_: bytes, author: bytes, time: int) -> bool:
        """Whether a statement that may replace others is the best one of its slot; it is then, and takes it."""
        slot = slot_of(record, id_, author)
        if slot is None:
            return True
        held = self._slots.get(slot[0])
        if held is not None and held[0] >= slot[1]:
            return False
        if held is not None:
            self.index.remove(held[2], held[1])
        self._slots[slot[0]] = (slot[1], id_, time)
        return True

    def replaced(self, record: object, id_: bytes, author: bytes) -> bytes | None:
        """The id of the statement whose slot this one takes, if it does."""
        if isinstance(record, Finding):
            return self._counting.displaced(record.batch, word_of(id_, author, record))
        slot = slot_of(record, id_, author)
        held = self._slots.get(slot[0]) if slot is not None else None
        return held[1] if slot is not None and held is not None and slot[1] > held[0] else None

    def is_stale(self, record: object, id_: bytes, author: bytes) -> bool:
        """Whether a better statement holds this one's slot."""
        if isinstance(record, Finding):
            return self._counting.is_displaced(record.batch, word_of(id_, author, record))
        slot = slot_of(record, id_, author)
        held = self._slots.get(slot[0]) if slot is not None else None
        return slot is not None and held is not None and slot[1] <= held[0]

    # what hangs on others

    def place_result(self, id_: bytes, author: bytes, result: Result) -> None:
        """A result and the findings on it, as bans and grants say."""
        banned = self._rulings.is_banned(author, self._seals.by_id.get(id_))
        if banned or not self._members.is_admitted(author):
            self.take_out(result.time, id_)
        else:
            self.put(result.time, id_)
        for word in self._counting.verdicts.words(id_):
            self.place_finding(id_, word)

    def place_finding(self, batch: bytes, word: Word) -> None:
        """A finding: in as long as its result is, and as long as its author may say such a thing."""
        if batch in self.index and self._counting.is_said(batch, word):
            self.put(word.time, word.id, never_sealed=not self._counting.verdicts.is_ruling(word))
        else:
            self.take_out(word.time, word.id)

    def place_findings_of(self, author: bytes) -> None:
        """All findings by an author."""
        for batch, word in list(self._counting.verdicts.by(author)):
            self.place_finding(batch, word)

    def place_profile(self, author: bytes) -> None:
        """The author's profile, which stays while he is admitted."""
        held = self._slots.get(("profile", author, 0))
        if held is not None and self._members.is_admitted(author):
            self.put(held[2], held[1], never_sealed=True)
        elif held is not None:
            self.take_out(held[2], held[1])

    def place_grants(self, author: bytes) -> None:
        """The author's grants that stand."""
        for grant, number in self._members.kept.of(author):
            place = self.put if self._members.stands(grant, number) else self.take_out
            place(grant.time, grant.id)

    def unsealed(self) -> Iterator[tuple[int, bytes]]:
        """(time, id) of the statements that a checkpoint can seal and none has, ascending."""
        return iter(self.tail)
