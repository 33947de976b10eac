"""Statements that came too early, kept until what they wait for is there.

Pure: time is passed in. Losing one does no harm, because sync brings it again; so the room is bounded, the oldest go
first, and no single cause may take all of it.

Always holds: at most ROOM statements are kept, at most ROOM_EACH for one cause, each once.
"""

from collections import OrderedDict

from p2pcap.ledger.judgement import Wait

ROOM = 4_096
ROOM_EACH = 512


class Early:
    """What waits, by what it waits for."""

    def __init__(self) -> None:
        self._waiting: dict[Wait, OrderedDict[bytes, None]] = {}
        self._order: OrderedDict[bytes, Wait] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def hold(self, data: bytes, wait: Wait) -> None:
        """Keep a statement's bytes until `wait` is over."""
        if data in self._order:
            self._drop(data)
        alike = self._waiting.setdefault(wait, OrderedDict())
        alike[data] = None
        self._order[data] = wait
        if len(alike) > ROOM_EACH:
            self._drop(next(iter(alike)))
        if len(self._order) > ROOM:
            self._drop(next(iter(self._order)))

    def release(self, wait: Wait) -> list[bytes]:
        """What waited for this, oldest first; it is kept no longer."""
        return self._take([wait])

    def known(self) -> list[bytes]:
        """What waited for a newer manifest; it is kept no longer."""
        return self._take([wait for wait in self._waiting if wait.kind in ("task", "chunk", "verifier")])

    def due(self, now: float) -> list[bytes]:
        """What waited for a time that has come."""
        return self._take([wait for wait in self._waiting if _time(wait) is not None and (_time(wait) or 0) <= now])

    def next_time(self) -> int | None:
        """The next unix second at which something falls due; None when nothing waits for a time."""
        return min((time for wait in self._waiting if (time := _time(wait)) is not None), default=None)

    def _take(self, waits: list[Wait]) -> list[bytes]:
        found = [data for wait in waits for data in self._waiting.get(wait, ())]
        for data in found:
            self._drop(data)
        return found

    def _drop(self, data: bytes) -> None:
        wait = self._order.pop(data)
        alike = self._waiting[wait]
        del alike[data]
        if not alike:
            del self._waiting[wait]


def _time(wait: Wait) -> int | None:
    return wait.value if wait.kind == "time" and isinstance(wait.value, int) else None
