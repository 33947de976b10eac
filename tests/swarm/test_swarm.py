"""Opening and leaving a swarm, and what its two ends see of each other."""

import os

import psutil
import pytest
import trio

from p2pcap.errors import AddressInUse, SwarmError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm.swarm import open_swarm
from tests.swarm.twin import ANY, QUICK, ROOT, Twin, node, within


@within(20)
async def test_two_nodes_meet_and_know_each_other() -> None:
    async with node() as (a, at_a), node(a.addresses[0], ping_every=0.05) as (b, at_b):
        await at_a.met(b)
        await at_b.met(a)
        (seen,) = b.peers()
        assert (seen.peer_id, seen.direction, seen.score) == (a.peer_id, "out", 0.0)
        assert seen.addresses == a.addresses
        assert a.peers()[0].direction == "in"
        assert a.peers()[0].addresses == b.addresses
        assert at_b.statuses[a.peer_id].addresses == a.addresses
        while b.peers()[0].rtt is None:
            await b.status(a.peer_id)
        await b.disconnect(a.peer_id)
        await at_a.until(lambda: ("disconnect", b.peer_id) in at_a.events)


@within(20)
async def test_the_port_of_another_node_is_in_use() -> None:
    async with node() as (a, _):
        taken = a.addresses[0].split("/p2p/")[0]
        with pytest.raises(AddressInUse, match="Another program listens on"):
            async with node(listen=[taken]):
                pass


@within(20)
@pytest.mark.parametrize(
    "listen", ["/ip4/192.0.2.1/tcp/0", "/ip4/127.0.0.1/udp/0", "/ip4/127.0.0.1/tcp/99999", "nonsense", "/dns4/x/tcp/1"]
)
async def test_a_wrong_listen_address_is_named(listen: str) -> None:
    with pytest.raises(SwarmError) as raised:
        async with node(listen=[listen]):
            pass
    assert listen in str(raised.value)
    assert not isinstance(raised.value, AddressInUse)


@within(20)
async def test_a_wrong_peer_address_is_named() -> None:
    with pytest.raises(SwarmError, match="names no peer"):
        async with node("/ip4/127.0.0.1/tcp/1"):
            pass
    async with node() as (a, _):
        with pytest.raises(SwarmError, match="own"):
            await a.connect(a.addresses[0])


@within(20)
async def test_connecting_to_nobody_and_to_somebody_else() -> None:
    async with node() as (a, _), node() as (b, _):
        absent = Identity.generate().peer_id
        with pytest.raises(Unreachable):
            await a.connect(f"/ip4/127.0.0.1/tcp/1/p2p/{absent}")
        with pytest.raises(Unreachable, match="Another peer"):
            await a.connect(b.addresses[0].replace(b.peer_id, absent))
        assert await a.connect(b.addresses[0]) == b.peer_id


@within(20)
async def test_a_node_is_no_relay_for_itself() -> None:
    async with node() as (a, _), node() as (b, _):
        with pytest.raises(Unreachable, match="through this node itself"):
            await a.connect(f"{a.addresses[0]}/p2p-circuit/p2p/{b.peer_id}")


@within(20)
async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with node():
            raise LookupError("mine")


def leftovers() -> tuple[int, int, int]:
    """Sockets, file descriptors and trio tasks of this process."""
    process = psutil.Process(os.getpid())
    return len(process.net_connections()), process.num_fds(), trio.lowlevel.current_statistics().tasks_living


@within(30)
async def test_leaving_leaves_nothing() -> None:
    before = leftovers()
    async with node() as (a, _at_a), node(a.addresses[0]) as (b, at_b), node(a.addresses[0]) as (c, at_c):
        await at_b.met(a)
        await at_c.met(a, b)
        await c.publish("results", b"busy to the last")
    assert leftovers() == before


@within(30)
async def test_cancelling_leaves_nothing_and_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    before = leftovers()
    with trio.CancelScope() as scope:
        async with node() as (a, _at_a), node(a.addresses[0]) as (b, at_b):
            await at_b.met(a)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(b.status, a.peer_id)
                scope.cancel()
    assert scope.cancelled_caught
    assert leftovers() == before
    assert capfd.readouterr().err == ""


@within(20)
async def test_what_waits_for_a_dead_peer_does_not_hold_up_the_end() -> None:
    async with node() as (a, _), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)

        async def write_to_the_dead() -> None:
            with trio.CancelScope(shield=True):  # as a frame that has begun is
                await b._host.get_network().get_connections()[0].event_closed.wait()

        b._nursery.start_soon(write_to_the_dead)


@within(20)
async def test_a_node_of_another_project_is_sent_away() -> None:
    other = Twin(root=b"another project's root hash, 32 b")
    alike = Twin(root=ROOT[:8] + bytes(24))
    async with (
        node() as (a, at_a),
        node(a.addresses[0], twin=other) as (b, _),
        node(a.addresses[0], twin=alike) as (c, _),
    ):
        await at_a.until(lambda: {("disconnect", b.peer_id), ("disconnect", c.peer_id)} <= set(at_a.events))
        assert not at_a.statuses


@within(20)
async def test_a_banned_peer_cannot_come_back() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_a.met(b)
        a.ban(b.peer_id)
        await at_b.until(lambda: at_b.events.count(("disconnect", a.peer_id)) >= 2)
        assert at_a.events.count(("connect", b.peer_id)) == 1
        with pytest.raises(Unreachable, match="banned"):
            await a.connect(b.addresses[0])


@within(20)
async def test_a_node_without_listening_takes_part() -> None:
    async with node() as (a, at_a):
        async with open_swarm(Identity.generate(), ROOT[:8], (), Twin(), [a.addresses[0]], QUICK) as b:
            await at_a.met(b)
            assert b.addresses == ()
            await b.publish("claims", b"here")
            await at_a.until(lambda: ("claims", b.peer_id, b"here") in at_a.heard)


@within(20)
async def test_listening_everywhere_names_real_addresses() -> None:
    async with node(listen=["/ip4/0.0.0.0/tcp/0"], announce=("/dns4/node.example/tcp/4001",)) as (a, _):
        assert a.addresses[0] == f"/dns4/node.example/tcp/4001/p2p/{a.peer_id}"
        assert not any("/0.0.0.0/" in address for address in a.addresses)
        assert any("/127.0.0.1/" in address for address in a.addresses)
    assert ANY[0].endswith("/0")


@within(30)
async def test_a_defect_in_the_background_is_seen_and_leaves_nothing() -> None:
    before = leftovers()

    async def defect() -> None:
        raise ZeroDivisionError

    async def live() -> None:
        async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
            await at_b.met(a)
            await at_a.met(b)
            a._nursery.start_soon(defect)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as raised:
        await live()
    assert raised.group_contains(ZeroDivisionError)
    assert leftovers() == before
