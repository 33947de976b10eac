"""Attacks by connected peers, on Yamux, on streams and on requests."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from p2pcap.codec import encode
from p2pcap.swarm import hardening, limits, messages
from p2pcap.swarm.frames import LENGTH
from p2pcap.swarm.frames import frame as framed
from p2pcap.swarm.hardening import MAX_STREAMS
from p2pcap.swarm.limits import MAX_FRAME
from p2pcap.swarm.peers import DISCONNECT_AT
from p2pcap.swarm.requests import MORE, PER_PEER
from tests.swarm.hostile import OPEN, RESET, frame, intruder, scene
from tests.swarm.test_requests import ended, protocol
from tests.swarm.twin import Stranger, stranger, within

DATA, PING = yamux.TYPE_DATA, yamux.TYPE_PING

GARBAGE = {
    "random": bytes(range(256)) * 8,
    "wrong-version": b"\x09" + frame(DATA, 0, 1, 0)[1:],
    "unknown-type": frame(9, 0, 1, 0) * 50,
    "data-for-no-stream": frame(DATA, 0, 999, 4, b"data") * 50,
    "window-of-4-gb": OPEN(1_001, 2**32 - 1) * 2,
    "the-same-stream-again": OPEN(1_003, 0) * 50,
    "a-stream-of-ours": OPEN(1_004, 0),
    "stream-zero": OPEN(0, 0) + frame(DATA, 0, 0, 4, b"data"),
    "oversized": frame(DATA, 0, 1, MAX_FRAME + 1, bytes(100)),
    "16-mb": frame(DATA, yamux.FLAG_SYN, 1_005, 16 * 1024 * 1024, bytes(100)),
    "acknowledged-data": frame(DATA, yamux.FLAG_ACK, 1, 10, bytes(10)) * 50,
    "go-away": frame(yamux.TYPE_GO_AWAY, 0, 0, 99),
    "all-flags": frame(DATA, 15, 1_007, 0) * 50,
}


@within(90)
async def test_garbage_between_the_streams() -> None:
    async with scene() as it:
        for kind, garbage in GARBAGE.items():
            async with intruder(it.node) as rude:
                await rude.send(garbage)
                await it.lives(1)
            assert kind


@within(20)  # after 30 s a frame that does not come is given up anyway
async def test_a_frame_of_16_mb_is_not_read_into_memory() -> None:
    async with scene() as it, intruder(it.node) as rude:
        await rude.send(GARBAGE["16-mb"])
        await rude.gone()


@within(90)
@pytest.mark.parametrize("kind", ["ping", "empty"])
async def test_a_flood_of_tiny_frames(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Pings are also answered; who does not read the answers is disconnected for that, if not for the flood."""
    monkeypatch.setattr(limits, "FLOOD", DISCONNECT_AT)
    monkeypatch.setattr(hardening, "STALL_SECONDS", 2.0)
    tiny = {"ping": frame(PING, 1, 0, 7), "empty": frame(DATA, 0, 999, 0)}[kind]
    async with scene() as it, intruder(it.node) as rude, trio.open_nursery() as nursery:
        rude.muxed.stall_seconds = 60.0  # as patient as can be: it is the node that gives up
        nursery.start_soon(rude.flood, tiny * 5_000)
        await it.at_node.until(lambda: ("disconnect", rude.peer_id) in it.at_node.events)
        assert kind == "ping" or it.score(rude.peer_id) <= -49
        nursery.cancel_scope.cancel()


@within(90)
async def test_rapid_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOOD", DISCONNECT_AT)
    async with scene() as it, intruder(it.node) as rude, trio.open_nursery() as nursery:

        async def open_and_reset() -> None:
            with contextlib.suppress(BaseLibp2pError):
                for first in range(1_001, 10**7, 200):
                    ids = range(first, first + 200, 2)
                    await rude.send(b"".join(OPEN(id, 0) + RESET(id, 0) for id in ids))

        nursery.start_soon(open_and_reset)
        await it.at_node.until(lambda: ("disconnect", rude.peer_id) in it.at_node.events)
        assert it.score(rude.peer_id) <= -49
        nursery.cancel_scope.cancel()


@within(60)
async def test_thousands_of_streams() -> None:
    async with scene() as it, intruder(it.node) as rude:
        await rude.send(b"".join(OPEN(id, 0) for id in range(1_001, 1_001 + 2 * 4_000, 2)))
        await it.lives(5)
        (connection,) = [
            conn
            for conn in it.node._host.get_network().get_connections()
            if str(conn.muxed_conn.peer_id) == rude.peer_id
        ]
        ours = 8  # what the node opens itself, and ten streams that wait to be accepted
        assert len(connection.get_streams()) <= MAX_STREAMS + ours
        assert len(connection.muxed_conn.streams) <= MAX_STREAMS + ours + 10


@within(60)
async def test_reset_in_mid_stream() -> None:
    async with scene() as it, stranger(it.node) as rude:
        for name in ("status", "push", "blob"):
            for said in (b"", LENGTH.pack(400), LENGTH.pack(400) + bytes(200)):
                stream = await rude.open(protocol(name))
                await stream.write(said)
                await stream.reset()
        for said in (b"", b"\x7f", b"\x7f" + bytes(60)):
            stream = await rude.open("/meshsub/1.1.0")
            await stream.write(said)
            await stream.reset()
        stream = await rude.open_raw()
        await stream.write(b"\x13/multistream/1.0.0\n\x20half")
        await stream.reset()
        await it.lives()
        assert it.score(rude.peer_id) == 0, "to hang up is no crime"


@within(60)
@pytest.mark.parametrize("then", ["nothing", "reset"])
@pytest.mark.parametrize("name", [protocol("status"), "/ipfs/id/1.0.0"])
async def test_what_nobody_will_read_is_not_kept(name: str, then: str) -> None:
    """200 kB after a request, on streams that the stranger resets or never closes."""
    async with scene() as it, stranger(it.node) as rude:
        (connection,) = it.node._host.get_network().get_connections(rude.host.get_id())
        for _ in range(20):
            stream = await rude.open(name)
            with contextlib.suppress(MuxedStreamError):
                await stream.write(framed(encode(it.at_node.status())) + bytes(200_000))
            if then == "reset":
                await stream.reset()
            else:
                await ended(stream)
        await it.lives()
        muxed = connection.muxed_conn
        assert sum(map(len, muxed.stream_buffers.values())) <= 2 * 256 * 1024
        assert len(muxed.streams) == len(muxed.stream_buffers) == len(muxed.stream_events) <= 12
        assert it.score(rude.peer_id) > -DISCONNECT_AT


@within(60)
@pytest.mark.parametrize("name", ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"])
async def test_garbage_for_identify_and_ping(name: str) -> None:
    async with scene() as it, stranger(it.node) as rude:
        for said in (b"", b"\xff" * 100, bytes(100_000), LENGTH.pack(2**32 - 1)):
            stream = await rude.open(name)
            with contextlib.suppress(MuxedStreamError):
                await stream.write(said)
            await stream.close()
        await rude.open(name)  # and nothing at all
        stream = await rude.open_raw()
        await stream.write(b"\x13/multistream/1.0.0\n\x14/ipfs/id/push/1.0.0\n" + b"\xff" * 1_000)
        await it.lives()


# requests


async def ask(rude: Stranger, name: str, request: object) -> Any:
    """Ask, and read nothing."""
    stream = await rude.open(protocol(name))
    await stream.write(framed(encode(request)))
    return stream


def long_answers() -> Sequence[tuple[str, object]]:
    """Requests with answers that fill every window."""
    return [("claims", messages.ClaimsRequest())] * PER_PEER


@within(60)
async def test_answers_that_nobody_reads_hold_up_nobody() -> None:
    """Fifteen peers that read nothing have all places but one for each peer."""
    async with scene() as it, contextlib.AsyncExitStack() as stack:
        it.at_node.live_claims.extend(bytes([n % 256]) * 1_000 for n in range(messages.CLAIMS_PAGE))
        for _ in range(MORE // (PER_PEER - 1) + 5):
            rude = await stack.enter_async_context(stranger(it.node))
            for name, request in long_answers():
                await ask(rude, name, request)
        places = it.node._requests._places
        while places._held.total() - len(places._held) < MORE:
            await it.lives(1)
        await it.lives(5)


@within(120)
async def test_asking_without_pause_holds_up_nobody() -> None:
    few: dict[str, Any] = {"requests_per_second": 10.0, "request_timeout": 60.0}  # eleven take turns, on any machine
    async with scene(**few) as it, trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        answered = 0

        async def pester(rude: Stranger) -> None:
            nonlocal answered
            with contextlib.suppress(Exception):
                while True:
                    await ended(await ask(rude, "statements", messages.StatementsRequest([bytes(32)])))
                    answered += 1

        for _ in range(10):
            rude = await stack.enter_async_context(stranger(it.node))
            for _ in range(8):
                nursery.start_soon(pester, rude)
        while answered < 250:
            await it.lives(1)
            in_turn = it.node._requests._bucket._first.statistics().tasks_waiting
            assert in_turn < 15, "one request of each peer waits for its turn, no more"
        nursery.cancel_scope.cancel()


def much() -> messages.PushRequest:
    """Some 56 kB, for 7 tokens."""
    return messages.PushRequest([bytes(4_000)] * 14)


DEAR: dict[str, Any] = {"requests_per_second": 5.0, "request_timeout": 300.0}
"""What waits, waits for minutes, if it may."""


@within(60)
async def test_who_hangs_up_leaves_no_request_behind() -> None:
    async with scene(**DEAR) as it:
        requests = it.node._requests
        for _ in range(4):
            async with stranger(it.node) as rude:
                for _ in range(40):
                    await ask(rude, "push", much())
                while len(requests._backlog._of.get(rude.peer_id, ())) < 30:
                    await it.lives(1)
        while set(requests._backlog._of) - {it.honest.peer_id}:
            await it.lives(1)
        assert requests._bucket._tokens > -5, "nobody else pays for what they did not get"


@within(60)
async def test_an_answer_in_work_ends_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = trio.Event(), trio.Event()

    async def receive(envelopes: Sequence[bytes], sender: str) -> int:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with scene(request_timeout=300.0) as it:
        monkeypatch.setattr(it.at_node, "receive", receive)
        async with stranger(it.node) as rude:
            await ask(rude, "push", much())
            await begun.wait()
            assert rude.peer_id not in it.node._requests._backlog._of, "what is answered does not wait"
        await ended.wait()
        assert it.score(rude.peer_id) == 0, "to hang up is no crime"


@within(60)
async def test_what_waits_is_bounded_at_the_cost_of_whoever_asks_for_most() -> None:
    most = 1024 * 1024
    async with scene(**DEAR) as it, contextlib.AsyncExitStack() as stack:
        backlog, served = it.node._requests._backlog, it.node._counters.served
        backlog._most = most
        for _ in range(3):
            rude = await stack.enter_async_context(stranger(it.node))
            for _ in range(40):
                await ask(rude, "push", much())
        while served["push", "refused"] < 3 * 40 - most // 56_000 - 10:
            await it.lives(1)
            assert backlog._total <= most
        await it.lives(5)
        assert served["status", "refused"] == served["blob", "refused"] == 0, "the honest peer had its turns"
        assert it.score(rude.peer_id) == 0


@within(60)
async def test_an_exception_in_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as it, stranger(it.node) as rude:

        async def fail(after: int) -> list[bytes]:
            raise ZeroDivisionError

        monkeypatch.setattr(it.at_node, "chain", fail)
        await ended(await ask(rude, "chain", messages.ChainRequest(0)))
        await it.lives()
        assert it.score(rude.peer_id) == 0, "it is our fault"


def test_the_limits_leave_room_for_what_honest_peers_do() -> None:
    assert limits.STREAMS_PER_SECOND >= 2 * 50, "twice the requests that a peer may make, each a stream"
