"""Relays, callers and called that do not keep to the protocol."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.exceptions import BaseLibp2pError
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from p2pcap.errors import Unreachable
from p2pcap.swarm.host import relayed
from p2pcap.swarm.nat import circuits
from p2pcap.swarm.nat.delimited import MAX_MESSAGE, read_message, write_message
from p2pcap.swarm.nat.relay import HOP, STOP, RelayLimits
from p2pcap.swarm.nat.reservations import Reservations
from p2pcap.swarm.peers import BAD_FRAME
from tests.swarm.bare import ECHO, Bare, bare, between, until
from tests.swarm.twin import within

STATUS = pb.HopMessage.STATUS


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 20,
        (MAX_MESSAGE + 1).to_bytes(2, "big").rjust(9, b"\xff"),
        b"\x05hello",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
        b"\x00",
    ],
)
@within(20)
async def test_garbage_to_a_relay_is_answered_as_such_and_held_against_the_sender(garbage: bytes) -> None:
    async with between() as parts:
        stream = await parts.caller.host.new_stream(parts.relay.host.get_id(), [HOP])
        await stream.write(garbage)
        answer = await read_message(stream, pb.HopMessage)
        malformed = garbage != b"\x00"  # an empty message is a RESERVE, as its type is 0
        assert answer.status == (pb.Status.MALFORMED_MESSAGE if malformed else pb.Status.OK)
        assert parts.relay.blamed == ([(parts.caller.id, BAD_FRAME)] if malformed else [])
        await parts.call()


@within(20)
async def test_a_request_that_never_comes_is_waited_for_only_so_long() -> None:
    async with between(RelayLimits(handshake_seconds=0.3)) as parts:
        stream = await parts.caller.host.new_stream(parts.relay.host.get_id(), [HOP])
        await stream.write(b"\x20")
        with pytest.raises(BaseLibp2pError):
            await stream.read(1)
        await parts.call()


async def deaf(stream: Any) -> None:
    await trio.sleep_forever()


async def declining(stream: Any) -> None:
    await write_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.Status.PERMISSION_DENIED))
    await stream.close()


async def talking_nonsense(stream: Any) -> None:
    await stream.write(b"\xff" * 100)


@pytest.mark.parametrize("behaviour", [deaf, declining, talking_nonsense])
@within(20)
async def test_a_peer_that_does_not_take_the_circuit_fails_the_caller(
    behaviour: Callable[[Any], Awaitable[None]],
) -> None:
    async with between(RelayLimits(handshake_seconds=0.5)) as parts:
        parts.called.host.set_stream_handler(STOP, behaviour)
        with pytest.raises(Unreachable, match="did not answer"):
            await parts.call()
        assert parts.server.traffic.circuits == 0
        assert not parts.server._circuits


async def offer(relay: Bare, called: Bare, *messages: bytes) -> Any:
    stream = await relay.host.new_stream(called.host.get_id(), [STOP])
    for message in messages:
        await stream.write(message)
    return stream


@within(20)
async def test_circuits_are_taken_in_only_from_relays_with_a_place_and_in_order() -> None:
    async with between() as parts, bare() as other:
        await other.dial(parts.called)
        answer = await read_message(await offer(other, parts.called), pb.StopMessage)
        assert answer.status == pb.Status.PERMISSION_DENIED
        answer = await read_message(await offer(parts.relay, parts.called, b"\x05hello"), pb.StopMessage)
        assert answer.status == pb.Status.MALFORMED_MESSAGE
        assert parts.called.blamed == [(parts.relay.id, BAD_FRAME)]
        await parts.call()


@within(20)
async def test_a_relay_cannot_pass_one_peer_off_as_another() -> None:
    async with between() as parts, bare() as other:
        stream = await parts.relay.host.new_stream(parts.called.host.get_id(), [STOP])
        who = pb.PeerId(id=other.host.get_id().to_bytes())
        await write_message(stream, pb.StopMessage(type=pb.StopMessage.CONNECT, peer=who))
        assert (await read_message(stream, pb.StopMessage)).status == pb.Status.OK
        raw = circuits._raw(stream, parts.relay.id, parts.called.id, initiator=True)
        with contextlib.suppress(BaseLibp2pError):
            await (await parts.relay.network.upgrade(raw, parts.called.host.get_id())).event_closed.wait()
        assert parts.called.connections(other) == []
        assert all(not relayed(conn) for conn in parts.called.connections(parts.relay))


@within(20)
async def test_the_peer_at_the_other_end_must_be_who_was_called() -> None:
    async with between() as parts, bare() as other:

        async def wrong(stream: Any) -> None:
            """A relay that puts somebody else through."""
            await read_message(stream, pb.HopMessage)
            end = await other.host.new_stream(parts.relay.host.get_id(), [ECHO])
            await write_message(stream, pb.HopMessage(type=STATUS, status=pb.Status.OK))
            await end.reset()
            raw = circuits._raw(stream, parts.relay.id, parts.caller.id, initiator=False)
            await parts.relay.network.upgrade(raw, parts.caller.host.get_id())

        await other.dial(parts.relay)
        parts.relay.host.set_stream_handler(HOP, wrong)
        with pytest.raises(Unreachable, match="through relay"):
            await parts.call()
        assert parts.caller.connections(parts.called) == []


@within(20)
async def test_a_relay_that_answers_a_reservation_with_nonsense_is_held_to_it() -> None:
    async with bare() as relay, bare() as called, trio.open_nursery() as nursery:
        relay.host.set_stream_handler(HOP, talking_nonsense)
        await called.dial(relay)
        places = Reservations(called.host, lambda: [relay.id], called.blame)
        nursery.start_soon(places.run)
        await until(lambda: called.blamed == [(relay.id, BAD_FRAME)])
        assert places.transports() == ()
        nursery.cancel_scope.cancel()
