"""Attacks on connections before it is known who is there, and by those who never say it."""

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from libp2p.crypto.rsa import create_new_key_pair as create_rsa
from libp2p.exceptions import BaseLibp2pError
from libp2p.security.noise import messages as noise

from p2pcap.errors import Unreachable
from p2pcap.swarm.admission import AT_ONCE, PER_ADDRESS, STRANGER_SECONDS, Admission, overdue, surplus
from p2pcap.swarm.gossip import topic_name
from tests.swarm.hostile import HELLO, deaf, hung_up, named, raw, scene
from tests.swarm.twin import ROOT, node, stranger, within

GARBAGE = {
    "nothing": b"",
    "zeros": bytes(1_000),
    "text": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "endless-varint": b"\xff" * 100,
    "huge-name": b"\xff\xff\xff\xff\xff\x1f" + bytes(100_000),
    "name-too-long": b"\xff\x7f" + bytes(100_000),
    "not-utf-8": named(b"/multistream/1.0.0", b"\xff\xfe\xfd"),
    "unknown-name": named(b"/multistream/1.0.0", b"/plaintext/2.0.0"),
    "no-newline": b"\x05abcde" * 20,
    "noise-zeros": HELLO + bytes(1_000),
    "noise-empty-message": HELLO + b"\x00\x00",
    "noise-garbage": HELLO + b"\x00\x20" + b"\x01" * 32 + b"\xff\xff" + b"\x02" * 65_535,
    "noise-half-a-message": HELLO + b"\xff\xff" + b"\x03" * 100,
}


@within(60)
async def test_garbage_before_a_handshake() -> None:
    async with scene() as it:
        for kind, garbage in GARBAGE.items():
            stream = await raw(it.node)
            async with stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                await hung_up(stream)
            assert kind
        await it.lives()


@within(60)
async def test_a_name_too_long_is_not_waited_for() -> None:
    async with node() as (a, _):
        async with await raw(a) as stream:
            await stream.send_all(b"\xff\xff\x7f")
            with trio.fail_after(8):  # after 10 s a handshake is given up anyway
                await hung_up(stream)


@within(60)
async def test_idle_connections_keep_nobody_out() -> None:
    async with scene() as it, trio.open_nursery() as nursery:
        streams = []
        for _ in range(1_000):
            streams.append(await raw(it.node))
        await it.lives()
        async with node(it.node.addresses[0]) as (_, at_newcomer):
            with trio.fail_after(8):  # after 10 s an idle handshake is over anyway
                await at_newcomer.met(it.node)
        for stream in streams:
            nursery.start_soon(stream.aclose)


@within(60)
async def test_a_slow_loris_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pcap.swarm.host.UPGRADE_SECONDS", 1.0)
    async with scene() as it, trio.open_nursery() as nursery:

        async def dribble() -> None:
            async with await raw(it.node) as stream:
                with pytest.raises(trio.BrokenResourceError):  # noqa: PT012
                    while True:
                        await stream.send_all(b"\xff")
                        await trio.sleep(0.5)  # its speed

        for _ in range(20):
            nursery.start_soon(dribble)
        await it.lives()


@within(60)
@pytest.mark.parametrize("kind", ["signature", "rsa", "no-key"])
async def test_a_bad_identity_is_not_let_in(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with scene() as it, node(links=0) as (liar, _):
        upstream = noise.NoiseHandshakePayload.serialize
        forged = create_rsa(2_048)

        def serialize(payload: noise.NoiseHandshakePayload) -> bytes:
            if payload.id_pubkey.to_bytes() == liar._host.get_public_key().to_bytes():
                key = forged.public_key if kind == "rsa" else payload.id_pubkey
                payload = noise.NoiseHandshakePayload(key, bytes(64))
            return upstream(payload) if kind != "no-key" else b"\xff" * 40

        with monkeypatch.context() as patch:
            patch.setattr(noise.NoiseHandshakePayload, "serialize", serialize)
            with pytest.raises(Unreachable):
                await liar.connect(it.node.addresses[0])
        await it.lives()
        assert [peer.peer_id for peer in it.node.peers()] == [it.honest.peer_id]


@within(60)
async def test_strangers_that_never_say_who_they_are_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pcap.swarm.admission.STRANGER_SECONDS", 0.5)
    monkeypatch.setattr("p2pcap.swarm.rounds.ROOM_EVERY", 0.2)
    async with scene() as it, stranger(it.node) as mute:
        mute.host.set_stream_handler(topic_name(ROOT[:8], "status"), deaf)
        await it.at_node.until(lambda: ("disconnect", mute.peer_id) in it.at_node.events)


@within(60)
async def test_a_house_full_of_strangers_has_room_for_a_newcomer() -> None:
    async with scene(max_connections=12) as it, AsyncExitStack() as stack:
        for _ in range(30):
            try:
                mute = await stack.enter_async_context(stranger(it.node))
                mute.host.set_stream_handler(topic_name(ROOT[:8], "status"), deaf)
            except* BaseLibp2pError:
                pass  # there was no room for it
        async with node(it.node.addresses[0]) as (newcomer, at_newcomer):
            await at_newcomer.met(it.node)
            assert len(it.node._host.get_network().get_connections()) <= 12
            assert newcomer.peers()


# who is let in


def test_the_oldest_handshake_of_the_address_with_the_most_goes_first() -> None:
    assert surplus([], "a") is None
    assert surplus(["a"] * (PER_ADDRESS - 1), "a") is None
    assert surplus(["b", *["a"] * PER_ADDRESS], "a") == 1
    assert surplus(["b"] * 10 + ["a"] * PER_ADDRESS + ["c"] * (AT_ONCE - PER_ADDRESS - 10), "d") == 10
    crowd = [f"{number}" for number in range(AT_ONCE)]
    assert surplus(crowd, "new") == 0
    assert surplus(crowd[1:], "new") is None


@within(20)
async def test_a_handshake_that_is_given_up_says_so_and_leaves_nothing() -> None:
    admission = Admission()
    given_up: list[int] = []

    async def idle(number: int) -> None:
        try:
            await admission.run("1.2.3.4", trio.sleep_forever)
        except Unreachable:
            given_up.append(number)

    async def quick() -> str:
        return "done"

    async with trio.open_nursery() as nursery:
        for number in range(PER_ADDRESS + 3):
            nursery.start_soon(idle, number)
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(given_up) == [0, 1, 2]
        assert await admission.run("5.6.7.8", quick) == "done"
        assert len(admission._under_way) == PER_ADDRESS
        nursery.cancel_scope.cancel()
    assert not admission._under_way


def test_strangers_that_never_say_who_they_are_are_due_to_go() -> None:
    since = {"stranger": 0.0, "member": 0.0, "newcomer": STRANGER_SECONDS}
    assert overdue(since, ["member"], STRANGER_SECONDS + 1) == ["stranger"]
    assert overdue(since, ["member"], STRANGER_SECONDS) == []
