"""Which peers left a fetch without a byte, so that the next one does not wait for them again.

A slow uplink is no crime and a dead peer no loss as long as others hold the same: whoever stalls is asked last for
PASS_OVER seconds. It is held against a peer only when it stalls again with nothing brought in between, and once in
PASS_OVER seconds at most, so nobody is banned for one bad minute, however many fetches fall into it.

Always holds: at most MAX_PEERS peers are remembered; who stalled longest ago is forgotten first.
"""

from dataclasses import dataclass

import trio

from p2pcap.swarm.peers import MAX_PEERS, STALLED
from p2pcap.swarm.requests import Blame

PASS_OVER = 60.0


@dataclass
class _Stall:
    until: float
    brought: bool = False


class Stalls:
    """The stalls of all peers of one swarm, in seconds of trio's clock."""

    def __init__(self, blame: Blame) -> None:
        self._blame = blame
        self._stalls: dict[str, _Stall] = {}

    def passed_over(self, peer: str) -> bool:
        """Whether `peer` is to be asked only for what nobody else can give."""
        stall = self._stalls.get(peer)
        return stall is not None and trio.current_time() < stall.until

    def stalled(self, peer: str) -> None:
        """`peer` sent nothing for too long."""
        if self.passed_over(peer):
            return
        before = self._stalls.pop(peer, None)
        self._stalls[peer] = _Stall(trio.current_time() + PASS_OVER)
        if len(self._stalls) > MAX_PEERS:
            del self._stalls[next(iter(self._stalls))]
        if before is not None and not before.brought:
            self._blame(peer, STALLED)

    def brought(self, peer: str) -> None:
        """`peer` answered a request with something of use."""
        if peer in self._stalls:
            self._stalls[peer].brought = True
