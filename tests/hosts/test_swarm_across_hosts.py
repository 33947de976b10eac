"""Six hosts with 50 ms and 5 % loss between any two, one behind a home router, and five faults: nothing is lost.

What it took is printed.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.faults import Member, Trial
from tests.hosts.network import network
from tests.hosts.record import Record
from tests.swarm.twin import within

NAMES = "abcdef"
EVERYWHERE = "/ip4/0.0.0.0/tcp/4001"
AT_HOME = "c"
"""It can dial the others and they cannot dial it. Not one of the first two, whose addresses everybody is given."""
ABROAD = {"traverse": True, "relay": "if reachable"}
"""As `p2pcap join` sets it."""
DELAY, LOSS, SEED = 0.05, 0.05, 1


@pytest.mark.slow
def test_every_statement_reaches_six_hosts_through_five_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    @within(280)
    async def run() -> None:
        record = Record()
        async with network(DELAY, LOSS, SEED) as net:
            hosts = [net.host(name, net.home() if name == AT_HOME else None) for name in NAMES]
            members = [
                Member(host.name, f"/ip4/{host.address}/tcp/4001", EVERYWHERE, host.prefix, tmp_path, record, ABROAD)
                for host in hosts
            ]
            for member in members:
                member.known = [other.address for other in members[:2] if other is not member]
            report = await Trial(members, record, net.partition, net.heal, SEED).run()
        report |= {"network": "50 ms, 5 % loss", "at_home": AT_HOME, "packets": net.carried, "lost": net.lost}
        with capsys.disabled():
            print("\n" + json.dumps(report))
        record_property("report", report)

    run()
