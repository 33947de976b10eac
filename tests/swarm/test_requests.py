"""Strangers on the request protocols: garbage, floods, silence. The node answers honest peers all the while."""

import contextlib
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.pubsub.pb import rpc_pb2

from p2pcap.codec import decode, encode
from p2pcap.errors import RequestFailed, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm import messages
from p2pcap.swarm.frames import LENGTH, FrameReader, frame
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.requests import MAX_REQUEST
from p2pcap.swarm.swarm import Swarm
from tests.swarm.twin import ROOT, Stranger, Twin, node, stranger, within

NAMES = ("status", "reconcile", "statements", "push", "chain", "claims", "blob", "body", "image")


def protocol(name: str) -> str:
    return topic_name(ROOT[:8], name)


async def read_on(stream: Any) -> None:
    while True:
        await stream.read(65_536)


async def ended(stream: Any) -> None:
    """Wait until the other side closes or resets the stream, whatever it sends before."""
    with contextlib.suppress(StreamEOF, StreamReset):
        await read_on(stream)


GARBAGE = {
    "oversized": LENGTH.pack(2**32 - 1) + b"x",
    "just-too-long": LENGTH.pack(MAX_REQUEST + 1) + bytes(MAX_REQUEST + 1),
    "not-cbor": frame(b"\xff" * 64),
    "deep": frame(b"\x81" * 9_000 + b"\x00"),
    "wrong-record": frame(encode({"who": "knows"})),
    "empty": frame(b""),
}


@within(60)
@pytest.mark.parametrize("kinds", [["oversized", "just-too-long", "not-cbor"], ["deep", "wrong-record", "empty"]])
@pytest.mark.parametrize("name", NAMES)
async def test_garbage_costs_a_stream_and_standing_and_nothing_else(name: str, kinds: list[str]) -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (honest, at_honest), stranger(a) as rude:
        await at_honest.met(a)
        for kind in kinds[:2]:
            stream = await rude.open(protocol(name))
            await stream.write(GARBAGE[kind])
            await ended(stream)
        scores = {peer.peer_id: round(peer.score) for peer in a.peers()}
        assert scores == {honest.peer_id: 0, rude.peer_id: -40}
        stream = await rude.open(protocol(name))
        await stream.write(GARBAGE[kinds[2]])
        await ended(stream)
        await at_a.until(lambda: ("disconnect", rude.peer_id) in at_a.events)
        assert (await honest.status(a.peer_id)).root == ROOT


@within(30)
async def test_a_request_that_never_comes_is_given_up() -> None:
    async with node(request_timeout=0.2) as (a, _), stranger(a) as mute:
        stream = await mute.open(protocol("statements"))
        await stream.write(LENGTH.pack(40)[:3])
        await ended(stream)
        assert [peer.peer_id for peer in a.peers()] == [mute.peer_id]


@within(30)
async def test_an_answer_that_never_comes_is_given_up() -> None:
    async with node(request_timeout=0.2) as (a, _), stranger(a) as mute:

        async def say_nothing(stream: Any) -> None:
            await trio.sleep_forever()

        mute.host.set_stream_handler(protocol("status"), say_nothing)
        with pytest.raises(RequestFailed, match=r"within 0\.2 s"):
            await a.status(mute.peer_id)
        assert a.peers()[0].score < 0


@within(30)
@pytest.mark.parametrize("kind", GARBAGE)
async def test_an_answer_that_is_garbage_is_refused(kind: str) -> None:
    async with node() as (a, _), stranger(a) as liar:

        async def lie(stream: Any) -> None:
            await FrameReader(stream).read(MAX_REQUEST)
            await stream.write(GARBAGE[kind])
            await stream.close()

        liar.host.set_stream_handler(protocol("status"), lie)
        with pytest.raises(RequestFailed):
            await a.status(liar.peer_id)
        assert round(a.peers()[0].score) in (-20, -40)  # the node itself may have asked on connecting


@within(30)
async def test_an_answer_broken_off_is_a_failure_but_no_lie() -> None:
    async with node() as (a, _), stranger(a) as flaky:

        async def hang_up(stream: Any) -> None:
            await FrameReader(stream).read(MAX_REQUEST)
            await stream.write(LENGTH.pack(100) + b"begun")
            await stream.reset()

        flaky.host.set_stream_handler(protocol("status"), hang_up)
        with pytest.raises(RequestFailed, match="broke off"):
            await a.status(flaky.peer_id)
        assert a.peers()[0].score > -20


@within(30)
async def test_asking_an_absent_peer() -> None:
    async with node() as (a, _):
        with pytest.raises(Unreachable, match="not connected"):
            await a.status(Identity.generate().peer_id)


@within(30)
async def test_asking_too_fast_is_answered_later() -> None:
    async with node(requests_per_second=3.0) as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        bucket = a._requests._for(b.peer_id)[0]
        bucket._tokens = 1.0
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(b.status, a.peer_id)
        assert bucket._tokens < 1.0
        assert ("disconnect", b.peer_id) not in at_a.events


@within(30)
async def test_who_comes_again_has_no_new_tokens() -> None:
    again = Identity.generate()
    async with node() as (a, at_a):
        for _ in range(2):
            async with stranger(a, again):
                await at_a.until(lambda: again.peer_id in {peer.peer_id for peer in a.peers()})
            bucket, turn = a._requests._for(again.peer_id)
            bucket._tokens, bucket._rate = 100.0, 1e-9
            await at_a.until(lambda: not a.peers())
        async with stranger(a) as other:
            await still_well(a, other)
        assert a._requests._for(again.peer_id)[0] is bucket
        bucket._tokens = bucket._burst
        async with turn, stranger(a) as other:
            await still_well(a, other)
        assert a._requests._for(again.peer_id)[1] is turn, "somebody waits in it"
        async with stranger(a) as other:
            await still_well(a, other)
        assert again.peer_id not in a._requests._each, "a full bucket limits nobody"


@within(30)
@pytest.mark.parametrize(("name", "tokens"), [("push", 8), ("reconcile", 30), ("status", 1)])
async def test_a_long_request_costs_as_much_as_several(name: str, tokens: int) -> None:
    requests: dict[str, object] = {
        "push": messages.PushRequest([bytes(4_000)] * 15),
        "reconcile": messages.ReconcileRequest(b"\x62" + bytes(messages.RECONCILE_FRAME - 1)),
        "status": Twin().status(),
    }
    async with node() as (a, _), stranger(a) as wordy:
        bucket = a._requests._for(wordy.peer_id)[0]
        bucket._tokens, bucket._rate = 100.0, 1e-9
        stream = await wordy.open(protocol(name))
        await stream.write(frame(encode(requests[name])))
        await FrameReader(stream).read(MAX_REQUEST)
        assert round(100 - bucket._tokens) == tokens


def pubsub_frames() -> dict[str, bytes]:
    """What a stranger may write on the gossip protocol."""

    def rpc(**fields: Any) -> bytes:
        data = rpc_pb2.RPC(publish=[rpc_pb2.Message(**fields)]).SerializeToString()
        assert len(data) < 128**2
        return bytes([len(data) % 128 | 0x80, len(data) // 128]) + data

    name = topic_name(ROOT[:8], "claims")
    return {
        "not-protobuf": b"\x05\xff\xff\xff\xff\xff",
        "endless-length": b"\xff" * 32,
        "huge-length": b"\xff\xff\xff\x7f",
        "no-key": rpc(data=b"x", topicIDs=[name], from_id=b"me", seqno=b"1", signature=b"s"),
        "bad-key": rpc(data=b"x", topicIDs=[name], from_id=b"me", seqno=b"2", signature=b"s", key=b"\xff\xfe"),
        "no-origin": rpc(data=b"x", topicIDs=[name], seqno=b"3", signature=b"s"),
        "bad-signature": rpc(
            data=b"x", topicIDs=[name], from_id=b"\x00\x24\x08\x01\x12\x20" + bytes(32), seqno=b"4", signature=b"s"
        ),
    }


@within(60)
@pytest.mark.parametrize("kind", pubsub_frames())
async def test_garbage_on_gossip_leaves_the_node_as_it_was(kind: str) -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (honest, at_honest), stranger(a) as rude:
        await at_honest.met(a)
        stream = await rude.open("/meshsub/1.1.0")
        await stream.write(pubsub_frames()[kind])
        await stream.close()
        await still_well(a, rude)
        await honest.publish("claims", b"all is well")
        await at_a.until(lambda: ("claims", honest.peer_id, b"all is well") in at_a.heard)
        assert len(at_a.heard) == 1


async def still_well(a: Swarm, asking: Stranger) -> None:
    """The stranger's connection works as before."""
    stream = await asking.open(protocol("statements"))
    await stream.write(frame(encode(messages.StatementsRequest([bytes(32)]))))
    assert decode(await FrameReader(stream).read(1_000), messages.Statements, 1_000).envelopes == []


@within(30)
@pytest.mark.parametrize(
    "said",
    [b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n", b"\x00" * 100, b"\xff" * 20, b"\x13/multistream/1.0.0\n\x05nope\n"],
)
async def test_garbage_while_naming_a_protocol_leaves_the_connection(said: bytes) -> None:
    async with node() as (a, _), stranger(a) as rude:
        stream = await rude.open_raw()
        await stream.write(said)
        await stream.close()
        await still_well(a, rude)


@within(9)  # after 10 s the node gives up any stream on which nothing is said
async def test_no_peer_may_open_streams_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pcap.swarm.hardening.MAX_STREAMS", 8)
    async with node() as (a, _), stranger(a) as greedy:
        streams = [await greedy.open_raw() for _ in range(12)]
        for stream in streams[8:]:
            await ended(stream)
        for stream in streams:
            await stream.reset()
        await still_well(a, greedy)
