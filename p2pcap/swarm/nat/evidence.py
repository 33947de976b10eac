"""What peers say of how they reach this node, and what follows from it.

Pure: times are passed in. One peer proves nothing, neither that the node is reached nor that it is not: it takes
AGREE peers, and more than say the opposite, be it of one address or of all.

Always holds: an answer counts once for its peer and no longer than KEEP_SECONDS; answers about addresses that are ours
no more count for nothing; at most MAX_PEERS answers are kept.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from p2pcap.swarm.nat.transports import transport_of

AGREE = 2
RECHECK_SECONDS = 600.0
KEEP_SECONDS = 2 * RECHECK_SECONDS + 60.0
RETRY_SECONDS = 60.0
"""A peer that gave no answer, or dialled nothing, is asked again after so long."""
ENOUGH = 3
"""Peers that dialled us and of whom more than half agree: nobody else is asked."""
MAX_ASKED = 8
MAX_PEERS = 64

State = Literal["unknown", "public", "private"]


@dataclass(frozen=True)
class Reachability:
    """Whether others can dial this node; not known yet, yes, at the `proven` addresses, or no.

    `hosts` are this node's own IP addresses as several peers see them.
    """

    state: State = "unknown"
    proven: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What one peer said at `at`: the addresses it reached and those it did not.

    `host` and `port` are where it sees us; `shared`: our connection with it leaves from the port that we dial from.
    """

    at: float
    host: str = ""
    port: int = 0
    shared: bool = False
    reached: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()

    @property
    def tried(self) -> bool:
        """Whether the peer dialled at all."""
        return bool(self.reached or self.failed)


class Evidence:
    """The latest answer of each peer."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def heard(self, peer: str, answer: Answer) -> None:
        """`peer` answered, or did not: then with an answer that holds nothing."""
        self._answers.pop(peer, None)
        self._answers[peer] = answer
        if len(self._answers) > MAX_PEERS:
            del self._answers[next(iter(self._answers))]

    def clear(self) -> None:
        """Our own addresses changed."""
        self._answers.clear()

    def conclude(self, now: float) -> Reachability:
        """What the answers say together."""
        answers = self._recent(now)
        reached = Counter(address for answer in answers for address in answer.reached)
        failed = Counter(address for answer in answers for address in answer.failed)
        against = sum(answer.tried and not answer.reached for answer in answers)
        most = {
            address for address, votes in reached.items() if votes >= AGREE and votes > max(failed[address], against)
        }
        proven = tuple(address for address in reached if address in most)
        hosts = tuple(host for host, votes in _hosts(answers).items() if votes >= AGREE)
        return Reachability(_state(answers, bool(proven)), proven, hosts)

    def mappings(self, now: float) -> tuple[str, ...]:
        """The outside of our dialling port, like /ip4/192.0.2.7/tcp/50123, as most see it; two where it is even."""
        votes = self._ports(now)
        most = max(votes.values(), default=0)
        return tuple(transport_of(*there) for there, n in votes.items() if n == most)[:2]

    def symmetric(self, now: float) -> bool:
        """Whether the router gives our dialling port another outside for each destination, as no two agree on one."""
        votes = self._ports(now)
        return len(votes) > 1 and max(votes.values()) == 1

    def due(self, peers: Iterable[str], now: float) -> list[str]:
        """Those of `peers` to ask now, if any more are needed; in their order."""
        fresh = [answer for answer in self._recent(now) if now - answer.at < RECHECK_SECONDS and answer.tried]
        settled = len(fresh) >= ENOUGH and self.conclude(now).state != "unknown"
        wanted = 0 if settled else (ENOUGH if len(fresh) < ENOUGH else MAX_ASKED) - len(fresh)
        return [peer for peer in peers if self._waited(peer, now)][: max(0, wanted)]

    def _waited(self, peer: str, now: float) -> bool:
        answer = self._answers.get(peer)
        return answer is None or now - answer.at >= (RECHECK_SECONDS if answer.tried else RETRY_SECONDS)

    def _recent(self, now: float) -> list[Answer]:
        return [answer for answer in self._answers.values() if now - answer.at < KEEP_SECONDS]

    def _ports(self, now: float) -> Counter[tuple[str, int]]:
        return Counter((answer.host, answer.port) for answer in self._recent(now) if answer.shared and answer.host)


def _hosts(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(answer.host for answer in answers if answer.host)


def _state(answers: Sequence[Answer], proven: bool) -> State:
    if proven:
        return "public"
    in_vain = sum(answer.tried and not answer.reached for answer in answers)
    some = sum(bool(answer.reached) for answer in answers)
    return "private" if in_vain >= AGREE and in_vain > some else "unknown"
