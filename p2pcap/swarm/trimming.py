"""Which connections to close when there are too many, so that a newcomer always finds a place.

Pure. Peer ids cost nothing and addresses cost something, so whoever floods a node with connections comes from few
networks. Room is made in the network with the most connections, there at the address with the most, and there with the
one that came last: whoever was there before the flood keeps its place. The only connection from an address keeps its
own for long enough to say who it is.

Always holds: peers that the user named, relays that hold a place for us and the links we chose ourselves are never
closed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal

from p2pcap.swarm.peers import BAD_FRAME

RESERVE = 8
"""Places kept free, or an eighth of all if that is less. More newcomers than that between two looks find the door
closed, and come again."""
SHOW_WITHIN = 10.0
"""Seconds in which a newcomer tells its status; one that has not is the first to go."""
NETWORK = {4: 16, 6: 48}
"""Bits of an address that name its network: further addresses in the same one are had for little."""
HOST = {4: 32, 6: 64}
"""Bits that name the host, or whoever has the line: with IPv6 each has 2^64 addresses to choose from."""


@dataclass(frozen=True)
class Connection:
    """What counts about one connection. `age` is in seconds; `score` is 0, or negative for a peer that misbehaved.

    `remote` is the other end's IP address, or "relay" for every connection that comes through one.
    `kept`: the user named the peer, it is a relay that holds a place for us, or one of the links we dialled to have
    enough of them. `told`: it has told its status.
    """

    peer: str
    remote: str
    direction: Literal["in", "out"]
    age: float
    kept: bool
    told: bool
    score: float


def places(limit: int) -> int:
    """How many of `limit` connections may be in use for long."""
    return limit - min(RESERVE, limit // 8)


def surplus(connections: Sequence[Connection], keep: int) -> list[str]:
    """The peers to disconnect so that `keep` connections are left, in the order in which they are to go."""
    left = list(connections)
    origins = {one.remote: _origins(one.remote) for one in left}
    closed: list[str] = []
    while len(left) > keep and (free := [one for one in left if not one.kept]):
        crowds = Counter(origin for one in left for origin in origins[one.remote])
        worst = max(free, key=lambda one: _nuisance(one, *(crowds[origin] for origin in origins[one.remote])))
        closed.append(worst.peer)
        left = [one for one in left if one.peer != worst.peer]
    return closed


def _nuisance(one: Connection, in_network: int, at_host: int) -> tuple[bool, float, int, int, bool, bool, float]:
    """Larger: closed sooner. A lapse is no reason, a broken frame is one."""
    silent = not one.told and one.age > SHOW_WITHIN
    wrong = max(0.0, -one.score - BAD_FRAME / 2)
    settled = one.age > SHOW_WITHIN or at_host > 1
    return silent, wrong, in_network, at_host, settled, one.direction == "in", -one.age


def _origins(remote: str) -> tuple[str, str]:
    return f"network {shared(remote, NETWORK)}", f"host {shared(remote, HOST)}"


def shared(remote: str, bits: Mapping[int, int]) -> str:
    """The part of an address that is so many bits long; what is no address stands for itself."""
    try:
        address = ip_address(remote)
    except ValueError:
        return remote
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ip_network((address, bits[address.version]), strict=False))
