"""Circuits through a relay: what they are to those who use them, and what a relay gives."""

import contextlib
import os
import struct
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.exceptions import BaseLibp2pError
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.stream_muxer.yamux import yamux

from p2pcap.errors import Unreachable
from p2pcap.swarm import windows
from p2pcap.swarm.host import relayed, remote_address
from p2pcap.swarm.nat.circuits import CircuitStream
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.nat.relay import HOP, STOP, Places, Refused, Relay, RelayLimits
from p2pcap.swarm.settings import SwarmSettings
from tests.swarm.bare import ECHO, RESERVE, Bare, bare, between, closed, connect_to, request, until
from tests.swarm.twin import within

LIMITS = RelayLimits(circuit_bytes=300_000)
STATUS = pb.HopMessage.STATUS


# a circuit is a connection


@within(20)
async def test_two_peers_meet_through_a_relay() -> None:
    async with between() as parts:
        (transport,) = parts.places.transports()
        assert transport == f"{parts.relay.address}/p2p-circuit"
        await parts.call()
        (out,), (in_,) = parts.caller.connections(parts.called), parts.called.connections(parts.caller)
        assert (relayed(out), relayed(in_), remote_address(out)) == (True, True, None)
        assert (out.direction.name, in_.direction.name) == ("OUTBOUND", "INBOUND")
        assert await parts.caller.ask(parts.called, b"hello") == b"hello"
        assert await parts.called.ask(parts.caller, b"you") == b"you"
        (to_relay,) = parts.called.connections(parts.relay)
        assert [stream.get_protocol() for stream in to_relay.get_streams()] == [STOP], "counted as long as it lasts"
        assert parts.server.traffic.circuits == 1
        assert parts.server.traffic.bytes > 0
        await out.close()
        await closed(in_)
        with pytest.raises(BaseLibp2pError):
            await parts.caller.ask(parts.called, b"")
        await until(lambda: parts.server.traffic.circuits == 0)
        assert not parts.server._circuits


@within(30)
async def test_much_goes_both_ways_at_once_and_whole() -> None:
    data = os.urandom(3_000_000)
    async with between() as parts:
        await parts.call()

        async def one(a: Bare, b: Bare) -> None:
            assert await a.ask(b, data) == data

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, parts.caller, parts.called)
            nursery.start_soon(one, parts.called, parts.caller)


@within(20)
async def test_streams_take_the_direct_connection_when_there_is_one() -> None:
    async with between() as parts:
        await parts.call()
        await parts.called.dial(parts.caller)
        stream = await parts.caller.host.new_stream(parts.called.host.get_id(), [ECHO])
        assert not relayed(stream.swarm_conn)
        await stream.reset()


@within(20)
async def test_when_the_relay_dies_both_ends_hear_of_it() -> None:
    async with between() as parts:
        await parts.call()
        (out,), (in_,) = parts.caller.connections(parts.called), parts.called.connections(parts.caller)
        for conn in parts.relay.network.get_connections():
            await conn.muxed_conn.secured_conn.close()
        await closed(out)
        await closed(in_)
        gone = parts.changed
        parts.places.wake()
        await gone.wait()
        assert parts.places.transports() == ()


@within(20)
async def test_a_silent_peer_behind_a_relay_is_dropped_as_any_other() -> None:
    async with between(settings=SwarmSettings(ping_every=0.1, ping_timeout=0.3)) as parts:
        await parts.call()
        (out,) = parts.caller.connections(parts.called)

        async def frozen(data: bytes) -> None:
            await trio.sleep_forever()

        (in_,) = parts.called.connections(parts.caller)
        in_.muxed_conn._write_frame = frozen  # hears everything and says nothing
        await closed(out)


@within(20)
async def test_closing_an_end_sets_its_reader_free() -> None:
    class Deaf:
        async def read(self, n: int | None) -> bytes:
            await trio.Event().wait()
            return b""

        async def reset(self) -> None: ...

    stream = CircuitStream(Deaf())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_to_the_end, stream)
        await trio.testing.wait_all_tasks_blocked()
        await stream.close()
    assert await stream.read(1) == b""


async def read_to_the_end(stream: CircuitStream) -> None:
    assert await stream.read(1) == b""


# what a relay gives, and to whom


def test_a_place_lasts_and_is_kept_by_asking_again() -> None:
    places = Places(RelayLimits(reservations=2, reservation_seconds=60.0))
    assert places.reserve("a", 0.0, lambda peer: True) == 60.0
    assert [places.holds(*case) for case in (("a", 59.0), ("a", 60.0), ("b", 0.0))] == [True, False, False]
    assert places.reserve("a", 30.0, lambda peer: True) == 90.0
    assert len(places) == 1


def test_places_of_peers_that_are_gone_are_given_away() -> None:
    places = Places(RelayLimits(reservations=2, reservation_seconds=60.0))
    places.reserve("a", 0.0, lambda peer: True)
    places.reserve("b", 0.0, lambda peer: True)
    with pytest.raises(Refused, match="RESERVATION_REFUSED"):
        places.reserve("c", 1.0, lambda peer: True)
    places.reserve("b", 1.0, lambda peer: True)
    places.reserve("c", 2.0, lambda peer: peer != "a")
    assert (places.holds("a", 2.0), places.holds("c", 2.0)) == (False, True)


@within(20)
async def test_strangers_and_callers_of_strangers_are_refused() -> None:
    async with between() as parts, bare() as stranger:
        relay = parts.relay
        await stranger.dial(relay)
        assert (await request(stranger, relay, RESERVE)).status == pb.Status.PERMISSION_DENIED
        assert (await request(stranger, relay, connect_to(parts.called))).status == pb.Status.PERMISSION_DENIED
        assert (await request(parts.caller, relay, connect_to(stranger))).status == pb.Status.NO_RESERVATION
        assert (await request(parts.caller, relay, connect_to(parts.caller))).status == pb.Status.PERMISSION_DENIED
        with pytest.raises(Unreachable, match="the peer is not behind it"):
            await parts.callers.dial(relay.id, stranger.id)
        with pytest.raises(Unreachable, match="is not connected"):
            await parts.callers.dial(stranger.id, parts.called.id)


@within(20)
async def test_a_place_is_for_the_asker_whoever_the_request_names() -> None:
    async with between() as parts, bare() as other:
        await other.dial(parts.relay)
        parts.members.add(other.id)
        named = pb.HopMessage(type=pb.HopMessage.RESERVE, peer=pb.PeerId(id=other.host.get_id().to_bytes()))
        assert (await request(parts.caller, parts.relay, named)).status == pb.Status.OK
        assert not parts.server._places.holds(other.id, 0.0)
        assert (await request(parts.called, parts.relay, connect_to(other))).status == pb.Status.NO_RESERVATION


@within(20)
async def test_nothing_is_relayed_over_a_relayed_connection() -> None:
    async with between() as parts:
        await parts.call()
        Relay(parts.called.host, lambda peer: True, list, parts.called.blame).serve()
        assert (await request(parts.caller, parts.called, RESERVE)).status == pb.Status.PERMISSION_DENIED
        with pytest.raises(Unreachable, match="is not connected"):
            await parts.callers.dial(parts.called.id, parts.relay.id)


@within(20)
async def test_circuits_are_limited_for_each_peer_and_in_all() -> None:
    limits = RelayLimits(circuits=2, circuits_per_peer=1)
    async with between(limits) as parts, bare() as third:
        await third.dial(parts.relay)
        parts.members.add(third.id)
        await parts.call()
        answer = await request(parts.caller, parts.relay, connect_to(parts.called))
        assert answer.status == pb.Status.RESOURCE_LIMIT_EXCEEDED
        assert (await request(third, parts.relay, RESERVE)).status == pb.Status.OK
        assert (await request(parts.called, parts.relay, connect_to(third))).status == pb.Status.RESOURCE_LIMIT_EXCEEDED
    async with between(RelayLimits(circuits=0)) as parts:
        with pytest.raises(Unreachable, match="it carries as much as it may"):
            await parts.call()
        assert not parts.server._circuits


@within(20)
async def test_a_caller_that_says_nothing_holds_a_circuit_for_a_moment_only() -> None:
    async with between(RelayLimits(circuits_per_pair=1, start_seconds=0.3)) as parts:
        answer = await request(parts.caller, parts.relay, connect_to(parts.called))
        assert answer.status == pb.Status.OK
        answer = await request(parts.caller, parts.relay, connect_to(parts.called))
        assert answer.status == pb.Status.RESOURCE_LIMIT_EXCEEDED
        await until(lambda: parts.server.traffic.circuits == 0)
        await parts.call()


@within(20)
async def test_a_circuit_in_use_outlasts_the_limits_for_silence() -> None:
    limits = RelayLimits(start_seconds=0.5, idle_seconds=0.5)
    async with between(limits, settings=SwarmSettings(ping_every=0.1)) as parts:
        await parts.call()
        (in_,) = parts.called.connections(parts.caller)
        with trio.move_on_after(1.5):
            await closed(in_)
        assert not in_.muxed_conn.event_closed.is_set()
        assert parts.server.traffic.circuits == 1


@within(20)
async def test_whoever_has_the_most_circuits_makes_room() -> None:
    limits = RelayLimits(circuits=2, circuits_per_pair=2)
    async with between(limits) as parts, bare() as third, bare() as fourth:
        for one in (third, fourth):
            await one.dial(parts.relay)
            parts.members.add(one.id)
        assert (await request(third, parts.relay, RESERVE)).status == pb.Status.OK
        for _ in range(2):
            assert (await request(parts.caller, parts.relay, connect_to(parts.called))).status == pb.Status.OK
        answer = await request(parts.called, parts.relay, connect_to(third))
        assert answer.status == pb.Status.RESOURCE_LIMIT_EXCEEDED, "it would have more than anybody"
        answer = await request(fourth, parts.relay, connect_to(third))
        assert answer.status == pb.Status.CONNECTION_FAILED, "there was room, but the third takes no calls"
        await until(lambda: parts.server.traffic.circuits == 1)


@within(10)
async def test_a_circuit_ends_when_its_bytes_are_spent() -> None:
    async with between(LIMITS) as parts:
        await parts.call()
        (in_,) = parts.called.connections(parts.caller)
        with pytest.raises(BaseLibp2pError):
            await parts.caller.ask(parts.called, bytes(1_000_000))
        await closed(in_)
        assert parts.server.traffic.bytes <= 2 * LIMITS.circuit_bytes
        await until(lambda: parts.server.traffic.circuits == 0)
        await parts.call()


@within(20)
async def test_a_circuit_ends_when_its_time_is_over() -> None:
    async with between(RelayLimits(circuit_seconds=0.5)) as parts:
        await parts.call()
        (out,), (in_,) = parts.caller.connections(parts.called), parts.called.connections(parts.caller)
        await closed(out)
        await closed(in_)


def flags_to(one: Bare, other: Bare) -> list[int]:
    """The flags of the Yamux frames that `one` sends to `other` from now on."""
    (conn,) = one.connections(other)
    flags: list[int] = []
    write = conn.muxed_conn._write_frame

    async def noted(data: bytes) -> None:
        flags.append(struct.unpack_from("!BBH", data)[2])
        await write(data)

    conn.muxed_conn._write_frame = noted
    return flags


@within(20)
async def test_what_one_end_has_said_arrives_after_it_closed_its_side() -> None:
    async with between() as parts:
        taken: list[Any] = []
        done = trio.Event()

        async def take(stream: Any) -> None:
            await read_message(stream, pb.StopMessage)
            await write_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.Status.OK))
            with contextlib.suppress(EOFError):
                while True:
                    taken.append(await stream.read(4_096))
            await stream.write(b"and this is back")
            await stream.close()
            done.set()

        parts.called.host.set_stream_handler(STOP, take)
        flags = flags_to(parts.relay, parts.caller)
        stream = await parts.caller.host.new_stream(parts.relay.host.get_id(), [HOP])
        await write_message(stream, connect_to(parts.called))
        assert (await read_message(stream, pb.HopMessage)).status == pb.Status.OK
        await stream.write(b"all of this")
        await stream.close_write()
        await done.wait()
        assert b"".join(taken) == b"all of this"
        assert await stream.read(4_096) == b"and this is back"
        await until(lambda: parts.server.traffic.circuits == 0)
        await request(parts.caller, parts.relay, RESERVE)
        assert yamux.FLAG_FIN in flags
        assert yamux.FLAG_RST not in flags, "an end in order: a reset may overtake what is unread"


@pytest.mark.parametrize("held", [True, False])
def test_a_fast_sender_fills_no_more_of_the_relay_than_a_window(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's windows grow to 16 MiB while a receiver is fast; when it stops, so much is in the relay."""
    if not held:
        monkeypatch.setattr(windows, "hold", lambda stream: None)

    @within(30)
    async def main() -> None:
        async with between() as parts:
            ends: list[Any] = []

            async def take(stream: Any) -> None:
                await read_message(stream, pb.StopMessage)
                await write_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.Status.OK))
                ends.append(stream)
                with contextlib.suppress(EOFError):
                    for _ in range(400):
                        await stream.read(65_536)
                await trio.sleep_forever()

            parts.called.host.set_stream_handler(STOP, take)
            stream = await parts.caller.host.new_stream(parts.relay.host.get_id(), [HOP])
            await write_message(stream, connect_to(parts.called))
            await read_message(stream, pb.HopMessage)
            with trio.move_on_after(3):
                while True:
                    await stream.write(bytes(65_507))
            (conn,) = parts.relay.connections(parts.caller)
            buffered = sum(len(buffer) for buffer in conn.muxed_conn.stream_buffers.values())
            assert (buffered <= 256 * 1024) is held, "upstream mends this"

    main()
