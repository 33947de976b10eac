"""Who behaves: a score for each peer, and who is sent away for a while or banned.

Pure: time is passed in. A penalty is halved every HALF_LIFE, so a lapse is forgotten and a habit adds up. At
DISCONNECT_AT the peer is disconnected, and neither let in nor dialled for AWAY_SECONDS; at BAN_AT it is banned for
BAN_SECONDS. Only what the peer itself could have known to be wrong is held against it.

Always holds: at most MAX_PEERS peers are remembered; the least blamed are forgotten first.
"""

import enum
from dataclasses import dataclass

HALF_LIFE = 600.0
DISCONNECT_AT = 50.0
AWAY_SECONDS = 300.0
BAN_AT = 100.0
BAN_SECONDS = 3_600.0
MAX_PEERS = 4_096

INVALID_MESSAGE = 10.0
"""Relayed, served or pushed a statement that is wrong for everybody; each costs as much."""
BAD_FRAME = 20.0
"""Broke the framing, the schema or a limit of a request or an answer."""
BAD_DATA = 34.0
"""Served bytes that do not have the hash asked for: the third time within minutes is the last."""
BROKE_OFF = 2.0
"""Did not answer, or not in time."""
FLOOD = 10.0
"""Opened streams or sent small frames faster than it may for another second (`p2pcap.swarm.limits`)."""
STALLED = 8.0
"""Left a fetch without a byte, again, with nothing brought in between (`p2pcap.swarm.stalls`): half an hour of nothing
but that is a ban, and now and then is forgotten."""


class Consequence(enum.Enum):
    """What a penalty leads to, beyond a lower score."""

    NOTHING = enum.auto()
    DISCONNECT = enum.auto()
    BAN = enum.auto()


@dataclass
class _Record:
    penalty: float = 0.0
    at: float = 0.0
    away_until: float = 0.0
    banned_until: float = 0.0

    def now(self, time: float) -> float:
        return float(self.penalty * 0.5 ** (max(0.0, time - self.at) / HALF_LIFE))


class Standing:
    """The scores and bans of all peers; times in seconds of any one clock."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def penalise(self, peer: str, penalty: float, now: float) -> Consequence:
        """Hold `penalty` against `peer`. Tells each consequence once, when it comes."""
        record = self._record(peer, now)
        record.penalty, record.at = record.now(now) + penalty, now
        if record.banned_until > now:
            return Consequence.NOTHING
        if record.penalty >= BAN_AT:
            record.banned_until = now + BAN_SECONDS
            return Consequence.BAN
        if record.penalty < DISCONNECT_AT or record.away_until > now:
            return Consequence.NOTHING
        record.away_until = now + AWAY_SECONDS
        return Consequence.DISCONNECT

    def ban(self, peer: str, now: float, seconds: float = BAN_SECONDS) -> None:
        """Ban `peer` for `seconds`, whatever its score."""
        self._record(peer, now).banned_until = now + seconds

    def send_away(self, peer: str, now: float, seconds: float = AWAY_SECONDS) -> None:
        """Have nothing to do with `peer` for `seconds`, whatever its score."""
        self._record(peer, now).away_until = now + seconds

    def refused(self, peer: str, now: float) -> bool:
        """Whether `peer` is neither to be let in nor dialled: it is banned, or was sent away."""
        record = self._records.get(peer)
        return record is not None and max(record.banned_until, record.away_until) > now

    def banned(self, peer: str, now: float) -> bool:
        """Whether `peer` is banned."""
        record = self._records.get(peer)
        return record is not None and record.banned_until > now

    def bans(self, now: float) -> int:
        """How many peers are banned."""
        return sum(record.banned_until > now for record in self._records.values())

    def score(self, peer: str, now: float) -> float:
        """0 for a clean peer, negative for what is held against it."""
        record = self._records.get(peer)
        return 0.0 if record is None else -record.now(now)

    def _record(self, peer: str, now: float) -> _Record:
        if peer not in self._records:
            if len(self._records) >= MAX_PEERS:
                for least in sorted(self._records, key=lambda other: self._blame(other, now))[: MAX_PEERS // 4]:
                    del self._records[least]
            self._records[peer] = _Record(at=now)
        return self._records[peer]

    def _blame(self, peer: str, now: float) -> tuple[bool, float]:
        record = self._records[peer]
        return max(record.banned_until, record.away_until) > now, record.now(now)
