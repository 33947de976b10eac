"""What the doctor is told about one address."""

from dataclasses import replace

import msgspec
import pytest
import trio

from p2pcap.errors import SwarmError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm import probe as probe_module
from p2pcap.swarm.messages import Status
from p2pcap.swarm.probe import probe
from tests.swarm.twin import ROOT, Twin, hash_of, node, within

OTHER = hash_of(b"another project")


class Newer(Twin):
    """Speaks a protocol that is not invented yet."""

    def status(self) -> Status:
        return msgspec.structs.replace(super().status(), version=2)


@within(30)
async def test_a_peer_of_the_project_says_its_status_and_the_visit_leaves_no_trace() -> None:
    async with node() as (a, twin):
        twin.hold(b"statement")
        assert "1 statements" in await probe(a.addresses[0], ROOT)
        await twin.until(lambda: any(event == "disconnect" for event, _ in twin.events))
        assert a.peers() == ()


@within(30)
async def test_other_projects_and_versions_are_told_apart() -> None:
    async with node(twin=Twin(OTHER)) as (a, _), node(twin=Newer()) as (b, _):
        with pytest.raises(SwarmError, match="another project"):
            await probe(a.addresses[0], ROOT)
        with pytest.raises(SwarmError, match="version 2"):
            await probe(b.addresses[0], ROOT)


@within(30)
async def test_nobody_another_peer_and_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "SETTINGS", replace(probe_module.SETTINGS, dial_timeout=0.5))
    async with node() as (a, _):
        address = a.addresses[0]
        with pytest.raises(Unreachable, match="Another peer"):
            await probe(address.replace(a.peer_id, Identity.generate().peer_id), ROOT)
        with pytest.raises(SwarmError, match="not an address"):
            await probe("example.org:4001", ROOT)
        listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
        silent = f"/ip4/127.0.0.1/tcp/{listener[0].socket.getsockname()[1]}/p2p/{a.peer_id}"
        with pytest.raises(Unreachable, match="Nobody answered"):
            await probe(silent, ROOT)
        await listener[0].aclose()
    with pytest.raises(Unreachable, match="refused"):
        await probe(address, ROOT)
