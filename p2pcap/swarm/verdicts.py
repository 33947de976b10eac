"""What is remembered of gossip messages: which were seen, and which were wrong and who has paid for that.

Pure but for the clock that is handed in. libp2p's own caches keep an ignored message out for good, charge nobody, and
let a peer keep entries alive for ever by naming their ids.

Always holds: both tables are bounded, and the oldest entries go first; an entry is kept from its first sight on,
however often it is asked for.
"""

from collections.abc import Callable

SEEN_SECONDS = 300.0
MAX_SEEN = 131_072
MAX_REJECTED = 2_048
MAX_RELAYERS = 128
"""Relayers of one wrong message that are remembered; a message that more than these relayed may cost one twice."""


class Seen:
    """The ids of messages that were taken in. Has the methods that libp2p's pubsub calls on its cache."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def has(self, id: bytes) -> bool:
        """Whether a message with this id was taken in within the last SEEN_SECONDS."""
        until = self._until.get(id)
        return until is not None and until > self._clock()

    def add(self, id: bytes) -> bool:
        """Remember an id; whether it is new."""
        now = self._clock()
        if self.has(id):
            return False
        self._until.pop(id, None)
        self._until[id] = now + SEEN_SECONDS
        while len(self._until) > MAX_SEEN or next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]
        return True

    def length(self) -> int:
        """How many are remembered."""
        return len(self._until)


class Rejected:
    """Wrong messages, by the hash of everything in them, so that nobody can have another message taken for one."""

    def __init__(self) -> None:
        self._relayers: dict[bytes, set[str]] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._relayers

    def charge(self, digest: bytes, relayer: str) -> bool:
        """Remember that `relayer` brought a wrong message; whether it is to pay, which it does once for each."""
        relayers = self._relayers.setdefault(digest, set())
        if relayer in relayers:
            return False
        if len(relayers) < MAX_RELAYERS:
            relayers.add(relayer)
        if len(self._relayers) > MAX_REJECTED:
            del self._relayers[next(iter(self._relayers))]
        return True
