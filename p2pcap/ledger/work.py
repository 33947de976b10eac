"""One task's work: which items have rows, which are open, who claims what, and what was announced.

Always holds: `announced` and `covered` may be lies; they steer the choice of work, and nothing else.
"""

from collections.abc import Container, Mapping

from p2pcap.ledger.claims import Claims, Held
from p2pcap.ledger.counting import Counting
from p2pcap.ledger.members import Members
from p2pcap.ledger.records import MAX_CLAIMED, Result
from p2pcap.ledger.rows import Rows
from p2pcap.project.task import Task

ANNOUNCED_FOR = 600.0
"""Seconds for which a header without its body keeps others from doing the same items."""


class Work:
    """The work on `task`. `claims`, `members` and `counting` are the ledger's; `m` is the project's prefix."""

    def __init__(self, task: Task, m: bytes, rows: Rows, claims: Claims, members: Members, counting: Counting) -> None:
        self.task = task
        self.tid = task.tid
        self.m = m
        self.rows = rows
        self.claims = claims
        self.announced: dict[int, dict[bytes, tuple[int, float, bytes]]] = {}
        self.covered: dict[int, int] = {}
        self._members = members
        self._counting = counting

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return self.rows.chunks

    def size(self, chunk: int) -> int:
        """How many images `chunk` has."""
        return self.rows.size(chunk)

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
        """Chunks that need work and are ready for it, ascending."""
        return self.rows.unfinished

    @property
    def begun(self) -> bool:
        """Whether anybody has made anything of it."""
        return bool(self.rows.done or self.announced)

    def missing(self, chunk: int) -> int:
        """The items of `chunk` without a row here that are to have one, as bits."""
        return self.rows.missing(chunk)

    def open_items(self, chunk: int, now: float, me: bytes = b"") -> int:
        """The items that `me` may do: not settled, not tried by `me`, not lately announced, not sealed elsewhere."""
        if me and not self._members.may_work(me):
            return 0  # whatever it did would not count
        bits = self.rows.unsettled(chunk, me) & ~self.covered.get(chunk, 0)
        waiting = self.announced.get(chunk, {}).values()
        late = {author for _, since, author in waiting if now - since >= ANNOUNCED_FOR}
        for items, _, author in waiting:
            if author not in late:  # who left one body out here is not believed about the next
                bits &= ~items
        return bits

    def left(self, me: bytes) -> bool:
        """Whether some item still needs the work of `me`; a banned author's work helps nobody."""
        return not self._members.is_banned(me) and any(self.rows.unsettled(chunk, me) for chunk in self.unfinished)

    def most_claimed(self, me: bytes) -> int:
        """How many chunks a claim of `me` may name."""
        return 1 if self._counting.is_unproven(me) else MAX_CLAIMED

    def claims_on(self, chunk: int, me: bytes = b"") -> Mapping[bytes, Held]:
        """The newest claims that name `chunk` for this task and bind `me`, by author, live or not. Where answers are
        checked, nobody gives way to those who are unproven but they themselves."""
        claims = self.claims.on(self.tid, chunk)
        if not claims or not self._counting.is_audited(self.tid) or self._counting.is_unproven(me):
            return claims
        return {author: held for author, held in claims.items() if not self._counting.is_unproven(author)}

    def claimed(self, me: bytes = b"") -> int:
        """How many chunks claims for this task name, live or not, that bind `me`."""
        if not self._counting.is_audited(self.tid) or self._counting.is_unproven(me):
            return self.claims.named(self.tid)
        return len(self.claims.chunks_of(self.tid, lambda author: not self._counting.is_unproven(author)))

    def announce(self, id_: bytes, author: bytes, result: Result, now: float) -> None:
        """A valid header came in; its body is not here yet, so it is no progress of its author's: it may be a lie."""
        self.announced.setdefault(result.chunk, {})[id_] = (result.items, now, author)

    def close(self, chunk: int, items: int, known: Container[bytes]) -> None:
        """Items are redacted: they are closed, and nobody's word about them is waited for, of the results `known`."""
        self.rows.redact(chunk, items, self._counting)
        for id_, (announced, _, _) in list(self.announced.get(chunk, {}).items()):
            if announced & items and id_ in known:
                self.forget(id_, chunk)

    def forget(self, id_: bytes, chunk: int) -> None:
        """A header's body came, or proved false: it holds nobody off any more."""
        waiting = self.announced.get(chunk, {})
        waiting.pop(id_, None)
        if not waiting:
            self.announced.pop(chunk, None)
