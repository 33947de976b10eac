"""Places at relays are kept, renewed and moved."""

import trio
import trio.testing
from multiaddr import Multiaddr

from p2pcap.swarm.nat import reservations
from p2pcap.swarm.nat.relay import Relay
from p2pcap.swarm.nat.reservations import Held, Reservations
from tests.swarm.bare import bare, until
from tests.swarm.twin import within


def test_a_place_is_renewed_in_time_and_a_second_one_is_kept() -> None:
    held = Held()
    assert held.ask(["a", "b", "c"], 0.0) == ["a", "b"]
    held.granted("a", ["/ip4/192.0.2.1/tcp/1/p2p/a"] * 3, 3_600.0, 0.0)
    held.granted("b", ["/ip4/192.0.2.2/tcp/1/p2p/b"], 1_200.0, 0.0)
    assert len(held.places["a"].addresses) == 2
    assert (held.ask(["a", "b", "c"], 599.0), held.next(0.0)) == ([], 600.0)
    assert held.ask(["a", "b", "c"], 600.0) == ["b"]
    held.failed("b", 600.0)
    assert (held.ask(["a", "b", "c"], 601.0), held.next(601.0)) == ([], 900.0), "asked again while it still holds"
    held.drop(lambda relay: True, 1_200.0)
    assert held.ask(["a", "b", "c"], 1_200.0) == ["b"], "gone by time, and the next is asked"
    assert held.ask([], 2_000.0) == [], "nobody is asked while no place is wanted"


def test_another_relay_is_asked_when_one_goes_or_refuses() -> None:
    held = Held()
    held.granted("a", [], 3_600.0, 0.0)
    held.granted("b", [], 3_600.0, 0.0)
    held.drop(lambda relay: relay != "a", 1.0)
    assert held.ask(["b", "c"], 1.0) == ["c"]
    held.failed("c", 1.0)
    assert held.ask(["b", "c"], 2.0) == []
    assert held.ask(["b", "c", "d"], 2.0) == ["d"]
    assert held.next(2.0) == 1.0 + reservations.AVOID_SECONDS
    assert held.ask(["b", "c"], 1.0 + reservations.AVOID_SECONDS) == ["c"]


def test_a_relay_cannot_make_a_client_busy_with_its_times() -> None:
    held = Held()
    held.granted("a", [], -5.0, 0.0)
    assert held.places["a"].until == reservations.SHORTEST
    held.granted("a", [], 2.0**63, 0.0)
    assert held.places["a"].renew_at <= reservations.LONGEST
    for number in range(1_000):
        held.failed(str(number), 0.0)
    assert len(held._avoid) <= reservations.MAX_AVOIDED


@within(20)
async def test_a_reservation_is_renewed_and_moves_when_its_relay_goes() -> None:
    now = [1_000.0]
    clock = lambda: now[0]  # noqa: E731
    async with bare() as relay, bare() as spare, bare() as called, trio.open_nursery() as nursery:
        for server in (relay, spare):
            Relay(server.host, lambda peer: True, list, server.blame, clock=clock).serve()
            await called.dial(server)
        candidates = [relay.id]
        news = [trio.Event()]

        def changed() -> None:
            news[0].set()
            news[0] = trio.Event()

        places = Reservations(called.host, lambda: candidates, called.blame, changed, clock)
        event = news[0]
        nursery.start_soon(places.run)
        await event.wait()
        assert places._held.places[relay.id].until == 4_600.0
        now[0] = 3_000.0
        places.wake()
        await until(lambda: places._held.places[relay.id].until == 6_600.0)
        candidates.append(spare.id)
        event = news[0]
        for conn in called.connections(relay):
            await conn.close()
        places.wake()
        await event.wait()
        await until(lambda: places.relays() == (spare.id,))
        assert places.transports() == (f"{spare.address}/p2p-circuit",)
        nursery.cancel_scope.cancel()


@within(20)
async def test_addresses_a_relay_tells_are_its_own_or_left_out() -> None:
    async with bare() as relay, bare() as other, bare() as called:
        await called.dial(relay)
        places = Reservations(called.host, lambda: [relay.id], called.blame)
        told = [
            b"\xff\xff",
            Multiaddr(other.address).to_bytes(),
            Multiaddr(f"/ip4/192.0.2.9/tcp/5/p2p/{relay.id}").to_bytes(),
        ]
        assert places._addresses(relay.id, told) == [relay.address, f"/ip4/192.0.2.9/tcp/5/p2p/{relay.id}"]
