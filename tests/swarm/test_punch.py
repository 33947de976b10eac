"""Getting past the relay: direct dials, and TCP simultaneous open through two home routers."""

import contextlib
import ctypes
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import dcutr_pb2 as pb
from multiaddr import Multiaddr

from p2pcap.identity import Identity
from p2pcap.swarm.host import UPGRADE_SECONDS, left_from, relayed
from p2pcap.swarm.nat import punch
from p2pcap.swarm.nat.circuits import Circuits
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.nat.punch import DCUTR, MAX_ADDRESSES, Punching, PunchTimes
from p2pcap.swarm.nat.reach import Reach
from p2pcap.swarm.nat.relay import Relay
from p2pcap.swarm.nat.reservations import Reservations
from p2pcap.swarm.nat.turns import MAX_PEERS, Attempts, Turns
from p2pcap.swarm.peers import BAD_FRAME
from p2pcap.swarm.requests import Requests
from p2pcap.swarm.settings import SwarmSettings
from tests.hosts.namespaces import NAMESPACES
from tests.hosts.network import Host, network
from tests.swarm.bare import Bare, Between, bare, between, until
from tests.swarm.twin import within

QUICK = PunchTimes(dial=1.0, talk=2.0, round=0.3, rounds=2, pause=0.05, grace=0.1, again=60.0)


class Met(Between):
    """Two peers that met through a relay, and what tries to replace it; nobody says where it is unless told to."""

    def __init__(self, parts: Between, times: PunchTimes) -> None:
        self.__dict__ |= parts.__dict__
        self.said: dict[str, list[str]] = {self.caller.id: [], self.called.id: []}
        self.punching = self._serve(self.called, times)
        self.answering = self._serve(self.caller, times)

    def _serve(self, one: Bare, times: PunchTimes) -> Punching:
        punching = Punching(one.host, lambda: self.said[one.id], lambda peer: self.said[peer], one.blame, times)
        punching.serve()
        return punching

    @property
    def direct(self) -> list[Any]:
        """The direct connections, as the called side has them."""
        return list(self.called.network.direct(self.caller.host.get_id()))


@asynccontextmanager
async def met(times: PunchTimes = QUICK) -> AsyncIterator[Met]:
    async with between() as parts, trio.open_nursery() as nursery:
        made = Met(parts, times)
        nursery.start_soon(made.punching.run)
        nursery.start_soon(made.answering.run)
        await parts.call()
        try:
            yield made
        finally:
            nursery.cancel_scope.cancel()


# dialling


@within(20)
async def test_all_dials_leave_from_one_port_and_none_leads_to_oneself() -> None:
    async with bare() as one, bare() as other, bare() as third:
        await one.dial(other)
        await one.dial(third)
        await one.dial(other)  # a second connection to the same destination cannot: it leaves from any port
        ports = [left_from(conn) for peer in (other, third) for conn in one.connections(peer)]
        assert [port is not None and one.network.ports.owns(port) for port in ports] == [True, False, True]
        with pytest.raises(BaseLibp2pError, match="itself"):
            await one.dial(one)
        one.network.ports.close()
        await third.dial(one)
        await one.dial(other)


# dialling the caller


@within(20)
async def test_the_called_side_dials_the_caller_and_lets_the_relay_go() -> None:
    async with met() as parts:
        parts.said[parts.caller.id] = ["/ip4/127.0.0.1/tcp/1", "garbage", parts.caller.transport]
        (conn,) = parts.called.connections(parts.caller)
        slow = await parts.caller.host.new_stream(parts.called.host.get_id(), ["/echo"])
        await slow.write(b"begun before")
        parts.punching.consider(parts.caller.id)
        await until(lambda: bool(parts.direct))
        assert not conn.is_closed, "what is under way has time to end"
        await slow.close_write()
        assert await slow.read(100) == b"begun before"
        await conn.muxed_conn.event_closed.wait()
        await until(lambda: len(parts.caller.connections(parts.called)) == 1)
        assert not relayed(parts.caller.connections(parts.called)[0])
        assert await parts.caller.ask(parts.called, b"now direct") == b"now direct"


@within(20)
async def test_whoever_called_waits_for_the_other_to_act() -> None:
    async with met() as parts:
        parts.said[parts.called.id] = [parts.called.transport]
        parts.answering.consider(parts.called.id)
        parts.answering.consider(parts.relay.id)
        parts.answering.consider(Identity.generate().peer_id)
        assert not parts.answering._busy


@within(20)
async def test_where_both_called_one_of_them_acts() -> None:
    async with met() as parts:
        Circuits(parts.caller.host, lambda relay: True, parts.caller.blame).serve()
        parts.members.add(parts.called.id)
        taken = Reservations(parts.caller.host, lambda: [parts.relay.id], parts.caller.blame)
        await taken._ask(parts.relay.id)
        await Circuits(parts.called.host, lambda relay: True, parts.called.blame).dial(parts.relay.id, parts.caller.id)
        await until(lambda: len(parts.caller.connections(parts.called)) == 2)
        assert parts.punching._calls(parts.caller.id) is not parts.answering._calls(parts.called.id)


@within(20)
async def test_an_attempt_that_fails_costs_nothing_and_is_not_made_again_at_once() -> None:
    async with met() as parts:
        parts.said[parts.caller.id] = parts.said[parts.called.id] = ["/ip4/127.0.0.1/tcp/1"]
        parts.punching.consider(parts.caller.id)
        assert parts.punching._busy == {parts.caller.id}
        await until(lambda: not parts.punching._busy)
        assert await parts.caller.ask(parts.called, b"still there") == b"still there"
        parts.punching.consider(parts.caller.id)
        assert not parts.punching._busy
        assert (parts.caller.blamed, parts.called.blamed) == ([], [])


@within(20)
async def test_a_private_address_that_both_have_is_not_dialled() -> None:
    """Two homes, the same numbers: the called side would shake hands with itself, and wait for that to fail."""
    async with met(PunchTimes(dial=1.0, talk=2.0, round=0.3, rounds=1)) as parts:
        parts.said[parts.caller.id] = parts.said[parts.called.id] = [parts.called.transport]
        began = trio.current_time()
        parts.punching.consider(parts.caller.id)
        await until(lambda: not parts.punching._busy)
        assert trio.current_time() - began < UPGRADE_SECONDS


def test_attempts_become_rarer_and_are_remembered_for_so_many_peers() -> None:
    attempts = Attempts(again=10.0)
    assert attempts.allowed("a", 0.0)
    attempts.failed("a", 0.0)
    assert [attempts.allowed("a", now) for now in (9.0, 10.0)] == [False, True]
    attempts.failed("a", 10.0)
    assert [attempts.allowed("a", now) for now in (29.0, 30.0)] == [False, True]
    attempts.succeeded("a")
    assert attempts.allowed("a", 30.0)
    for number in range(2 * MAX_PEERS):
        attempts.failed(str(number), 0.0)
    assert len(attempts._failed) == MAX_PEERS
    assert not attempts.allowed(str(2 * MAX_PEERS - 1), 1.0)


def test_a_peer_has_so_many_turns_and_later_more() -> None:
    turns = Turns(count=2, seconds=30.0)
    assert [turns.take("a", now) for now in (0.0, 1.0, 2.0, 29.0, 30.5, 30.6)] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    assert turns.take("b", 2.0)
    for number in range(2 * MAX_PEERS):
        turns.take(str(number), 0.0)
    assert len(turns._taken) == MAX_PEERS


# who does not keep to the protocol


async def nonsense(stream: Any) -> None:
    await stream.write(b"\xff" * 100)


async def out_of_turn(stream: Any) -> None:
    await write_message(stream, pb.HolePunch(type=pb.HolePunch.SYNC))


async def hanging_up(stream: Any) -> None:
    await stream.reset()


async def silent(stream: Any) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("behaviour", "blamed"), [(nonsense, True), (out_of_turn, True), (hanging_up, False), (silent, False)]
)
@within(20)
async def test_a_caller_that_garbles_the_exchange(behaviour: Callable[[Any], Awaitable[None]], blamed: bool) -> None:
    async with met(PunchTimes(talk=0.3, rounds=3, pause=0.0)) as parts:
        parts.caller.host.set_stream_handler(DCUTR, behaviour)
        parts.punching.consider(parts.caller.id)
        await until(lambda: not parts.punching._busy)
        assert parts.called.blamed == ([(parts.caller.id, BAD_FRAME)] if blamed else [])
        assert await parts.called.ask(parts.caller, b"alive") == b"alive"


@pytest.mark.parametrize("garbage", [b"\xff" * 30, b"\x05hello", b"\x02\x08\x64\x02\x08\x64"])
@within(20)
async def test_a_called_peer_that_garbles_the_exchange(garbage: bytes) -> None:
    async with met() as parts:
        stream = await parts.called.host.new_stream(parts.caller.host.get_id(), [DCUTR])
        await stream.write(garbage)
        await until(lambda: bool(parts.caller.blamed))
        assert parts.caller.blamed == [(parts.called.id, BAD_FRAME)]
        await until(lambda: not parts.answering._answering)
        assert await parts.called.ask(parts.caller, b"alive") == b"alive"


@within(20)
async def test_nobody_is_asked_to_punch_who_is_connected_directly() -> None:
    async with met() as parts:
        stream = await parts.relay.host.new_stream(parts.called.host.get_id(), [DCUTR])
        with pytest.raises(BaseLibp2pError):
            await read_message(stream, pb.HolePunch)
        assert not parts.punching._answering


@within(20)
async def test_one_attempt_at_a_time_few_in_all_and_few_addresses() -> None:
    async with met() as parts:
        many = [f"/ip4/127.0.0.1/tcp/{port}" for port in range(1, 50)]
        told = [Multiaddr(text).to_bytes() for text in many] + [b"\xff\xff", Multiaddr(parts.relay.address).to_bytes()]

        async def begin() -> None:
            stream = await parts.called.host.new_stream(parts.caller.host.get_id(), [DCUTR])
            await write_message(stream, pb.HolePunch(type=pb.HolePunch.CONNECT, ObsAddrs=told))
            await read_message(stream, pb.HolePunch)
            await write_message(stream, pb.HolePunch(type=pb.HolePunch.SYNC))

        await begin()
        with pytest.raises(BaseLibp2pError):
            await begin()
        await until(lambda: not parts.answering._answering)
        await begin()
        await until(lambda: not parts.answering._answering)
        with pytest.raises(BaseLibp2pError):
            await begin()
        assert len(punch._readable(many)) == MAX_ADDRESSES


# through two routers

SEEDS = {"relay": bytes(32), "caller": b"\1" * 32, "called": b"\2" * 32}
IDS = {name: Identity.from_seed(seed).peer_id for name, seed in SEEDS.items()}
MEETING = "/ip4/45.0.0.1/tcp/4001"
SECONDS = 60.0


def enter(namespace: str) -> None:
    """This thread goes there, alone; see setns(2)."""
    with open(NAMESPACES / namespace, "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


async def in_host(host: Host, main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` in a thread of its own that lives on that host."""
    token, done, failures = trio.lowlevel.current_trio_token(), trio.Event(), list[BaseException]()

    def run() -> None:
        try:
            enter(host.namespace)
            trio.run(main)
        except BaseException as error:  # noqa: BLE001 - raised again where the thread is waited for
            failures.append(error)
        token.run_sync_soon(done.set)

    threading.Thread(target=run).start()
    with trio.CancelScope(shield=True):
        await done.wait()
    for failure in failures:
        raise failure


async def on_the_relay(over: threading.Event) -> None:
    async with bare(listen=MEETING, identity=Identity.from_seed(SEEDS["relay"])) as relay:
        Relay(relay.host, lambda peer: True, lambda: [relay.address], relay.blame).serve()
        requests = Requests(relay.host, bytes(8), SwarmSettings(), relay.blame)
        Reach(relay.host, requests, list, list).serve()
        with trio.move_on_after(SECONDS):
            await until(over.is_set)


@asynccontextmanager
async def at_home(name: str, times: PunchTimes) -> AsyncIterator[tuple[Bare, Punching]]:
    """A node that knows how its dialling port looks from outside."""
    async with bare(listen="/ip4/0.0.0.0/tcp/4001", identity=Identity.from_seed(SEEDS[name])) as node:
        requests = Requests(node.host, bytes(8), SwarmSettings(), node.blame)
        reach = Reach(node.host, requests, lambda: [IDS["relay"]], list)
        while not node.network.direct(ID.from_string(IDS["relay"])):
            with contextlib.suppress(BaseLibp2pError):
                await node.network.dial(Multiaddr(MEETING), ID.from_string(IDS["relay"]))
        await reach._ask(IDS["relay"])
        punching = Punching(node.host, reach.mappings, lambda peer: [], node.blame, times)
        punching.serve()
        yield node, punching


async def on_the_called(outcome: list[str], times: PunchTimes) -> None:
    caller = ID.from_string(IDS["caller"])
    with trio.move_on_after(SECONDS):
        async with at_home("called", times) as (node, punching), trio.open_nursery() as nursery:
            places = Reservations(node.host, lambda: [IDS["relay"]], node.blame)
            Circuits(node.host, places.holds, node.blame).serve()
            nursery.start_soon(places.run)
            nursery.start_soon(punching.run)
            await until(lambda: bool(node.network.get_connections(caller)))
            punching.consider(IDS["caller"])
            await until(lambda: not punching._busy)
            outcome.append("direct" if node.network.direct(caller) else "relayed")
            await until(lambda: not node.network.get_connections(caller))
            nursery.cancel_scope.cancel()


async def on_the_caller(outcome: list[str], times: PunchTimes) -> None:
    called = ID.from_string(IDS["called"])
    with trio.move_on_after(SECONDS):
        async with at_home("caller", times) as (node, _):
            circuits = Circuits(node.host, lambda relay: False, node.blame)
            while not node.network.get_connections(called):
                with contextlib.suppress(Exception):
                    await circuits.dial(IDS["relay"], IDS["called"])
            await until(lambda: bool(outcome))
            stream = await node.host.new_stream(called, ["/echo"])
            await stream.write(b"hello")
            await stream.close_write()
            outcome.append("relayed" if relayed(stream.swarm_conn) else "direct")
            assert await stream.read(5) == b"hello"


@pytest.mark.parametrize(
    ("symmetric", "expected", "times"),
    [
        (False, "direct", PunchTimes(round=3.0, rounds=2, pause=1.0, grace=0.5)),
        (True, "relayed", PunchTimes(round=1.0, rounds=2, pause=0.1)),  # both rounds last until they are over
    ],
)
def test_two_homes_connect_through_their_routers(symmetric: bool, expected: str, times: PunchTimes) -> None:
    """Both routers drop what nobody inside asked for; a symmetric one, which nothing gets through, leaves the relay."""
    outcome: list[str] = []

    @within(SECONDS + 20)
    async def main() -> None:
        over = threading.Event()
        async with network(delay=0.02) as net:
            one, other = net.home(), net.home(symmetric)
            relay, caller, called = net.host("relay"), net.host("caller", one), net.host("called", other)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_host, relay, lambda: on_the_relay(over))
                async with trio.open_nursery() as homes:
                    homes.start_soon(in_host, called, lambda: on_the_called(outcome, times))
                    homes.start_soon(in_host, caller, lambda: on_the_caller(outcome, times))
                over.set()
            assert outcome == [expected, expected]
            if symmetric:  # each side did dial the other
                await net.turned_away(one.public, other)
                await net.turned_away(other.public, one)

    main()
