"""Six processes on 127.0.0.1 and five faults: every statement reaches everybody. What it took is printed."""

import json
import random
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.hosts.faults import Member, Trial
from tests.hosts.record import Record
from tests.swarm.twin import within

NAMES = "abcdef"
SEED = 4


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
def test_every_statement_reaches_six_processes_through_five_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    record = Record()
    transports = [f"/ip4/127.0.0.1/tcp/{port}" for port in free_ports(len(NAMES))]
    members = [
        Member(name, transport, transport, (), tmp_path, record)
        for name, transport in zip(NAMES, transports, strict=True)
    ]
    for member in members:
        member.known = [other.address for other in members[:2] if other is not member]

    @within(280)
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cable = Cable(members, nursery)
            report = await Trial(members, record, cable.cut, cable.heal, SEED).run()
        with capsys.disabled():
            print("\n" + json.dumps({"network": "loopback", **report}))
        record_property("report", report)

    run()
