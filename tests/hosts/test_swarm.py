"""Five faults in a swarm of six, once on loopback and once across lossy hosts: every statement reaches everybody.

What it took is printed.
"""

import random
import socket
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from tests.hosts.abreast import Report, side_by_side
from tests.hosts.faults import Member, Trial
from tests.hosts.network import network
from tests.hosts.record import Record

NAMES = "abcdef"


def introduce(members: Sequence[Member]) -> None:
    """Everybody is given the addresses of the first two."""
    for member in members:
        member.known = [other.address for other in members[:2] if other is not member]


@contextmanager
def folder() -> Iterator[Path]:
    """For the journals."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# on loopback

LOOPBACK_SEED = 4


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, and below those that the system gives to outgoing connections."""
    with ExitStack() as kept:
        ports: list[int] = []
        while len(ports) < count:
            port = random.randrange(10_000, 32_000)
            probe = kept.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        return ports


class Cable:
    """Nothing can be put between two processes on loopback, so at a cut each refuses those of the other side."""

    def __init__(self, members: Sequence[Member], nursery: trio.Nursery) -> None:
        self._members = members
        self._nursery = nursery

    def cut(self, *sides: Collection[str]) -> None:
        """Let the members of two sides (by name) hear nothing of each other; also those who are not there yet."""
        for member in self._members:
            others = [other for other in self._members if not any({member.name, other.name} <= set(s) for s in sides)]
            member.shunned = [other.identity.peer_id for other in others]
            self._tell(member, "shun")

    def heal(self) -> None:
        """Let everybody hear everybody."""
        for member in self._members:
            self._tell(member, "admit")
            member.shunned = []

    def _tell(self, member: Member, command: str) -> None:
        if member.alive:
            self._nursery.start_soon(member.child.tell, " ".join([command, *member.shunned]))


@pytest.mark.slow
@side_by_side(280)
async def test_every_statement_reaches_six_processes_through_five_faults() -> Report:
    record = Record()
    transports = [f"/ip4/127.0.0.1/tcp/{port}" for port in free_ports(len(NAMES))]
    with folder() as here:
        members = [
            Member(name, transport, transport, (), here, record)
            for name, transport in zip(NAMES, transports, strict=True)
        ]
        introduce(members)
        async with trio.open_nursery() as nursery:
            cable = Cable(members, nursery)
            report = await Trial(members, record, cable.cut, cable.heal, LOOPBACK_SEED).run()
    return {"network": "loopback", **report}


# across hosts

PORT = "/ip4/{}/tcp/4001"
AT_HOME = "c"
"""It can dial the others and they cannot dial it. Not one of the first two, whose addresses everybody is given."""
ABROAD = {"traverse": True, "relay": "if reachable"}
"""As `p2pcap join` sets it."""
DELAY, LOSS, SEED = 0.05, 0.05, 1


@pytest.mark.slow
@side_by_side(280)
async def test_every_statement_reaches_six_hosts_through_five_faults() -> Report:
    """50 ms and 5 % loss between any two hosts, one of them behind a home router."""
    record = Record()
    with folder() as here:
        async with network(DELAY, LOSS, SEED) as net:
            hosts = [net.host(name, net.home() if name == AT_HOME else None) for name in NAMES]
            members = [
                Member(host.name, PORT.format(host.address), PORT.format("0.0.0.0"), host.prefix, here, record, ABROAD)
                for host in hosts
            ]
            introduce(members)
            report = await Trial(members, record, net.partition, net.heal, SEED).run()
    return {**report, "network": "50 ms, 5 % loss", "at_home": AT_HOME, "packets": net.carried, "lost": net.lost}
