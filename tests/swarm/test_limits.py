"""The small pure parts: standing, token buckets, addresses, message limits."""

from typing import Any

import pytest
import trio
import trio.testing
from multiaddr import Multiaddr

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm import messages
from p2pcap.swarm.addresses import parse_endpoint, parse_endpoints, parse_listen, reachable
from p2pcap.swarm.messages import Status
from p2pcap.swarm.peers import (
    AWAY_SECONDS,
    BAN_AT,
    BAN_SECONDS,
    DISCONNECT_AT,
    HALF_LIFE,
    MAX_PEERS,
    Consequence,
    Standing,
)
from p2pcap.swarm.rates import TokenBucket
from tests.swarm.twin import Twin

PEER = Identity.from_seed(bytes(32)).peer_id


def test_penalties_add_up_to_a_ban_that_ends() -> None:
    standing = Standing()
    standing.penalise("p", BAN_AT - 1, now=0.0)
    assert standing.penalise("p", 1.0, now=0.0) is Consequence.BAN
    assert standing.penalise("p", 1.0, now=0.0) is Consequence.NOTHING, "banned once, not again"
    assert standing.banned("p", BAN_SECONDS - 1)
    assert standing.refused("p", BAN_SECONDS - 1)
    assert not standing.banned("p", BAN_SECONDS + 1)
    assert not standing.refused("p", BAN_SECONDS + 1)
    assert not standing.banned("somebody else", 0.0)


def test_before_it_is_banned_a_peer_is_sent_away_for_a_while() -> None:
    standing = Standing()
    assert standing.penalise("p", DISCONNECT_AT - 1, now=0.0) is Consequence.NOTHING
    assert not standing.refused("p", 0.0)
    assert standing.penalise("p", 1.0, now=0.0) is Consequence.DISCONNECT
    assert standing.penalise("p", 1.0, now=0.0) is Consequence.NOTHING, "sent away once, not again"
    assert standing.refused("p", AWAY_SECONDS - 1)
    assert not standing.banned("p", AWAY_SECONDS - 1)
    assert not standing.refused("p", AWAY_SECONDS + 1)
    assert standing.penalise("p", BAN_AT, now=AWAY_SECONDS + 1) is Consequence.BAN


def test_a_peer_can_be_sent_away_without_blame() -> None:
    standing = Standing()
    standing.send_away("p", now=0.0)
    assert (standing.refused("p", 1.0), standing.refused("p", AWAY_SECONDS + 1)) == (True, False)
    assert standing.score("p", 1.0) == 0.0


def test_a_lapse_is_forgotten() -> None:
    standing = Standing()
    standing.penalise("p", 40.0, now=0.0)
    assert standing.score("p", HALF_LIFE) == pytest.approx(-20.0)
    assert standing.penalise("p", 29.0, now=HALF_LIFE) is Consequence.NOTHING
    assert standing.score("nobody", 0.0) == 0.0


def test_the_table_of_peers_is_bounded_and_keeps_the_worst() -> None:
    standing = Standing()
    standing.ban("banned", now=0.0)
    standing.penalise("bad", 49.0, now=0.0)
    for n in range(2 * MAX_PEERS):
        standing.penalise(f"p{n}", 1.0, now=1.0)
    assert len(standing._records) <= MAX_PEERS
    assert standing.banned("banned", 1.0)
    assert standing.score("bad", 1.0) < -48


def test_a_bucket_serves_a_burst_and_then_its_rate_in_order() -> None:
    served: list[tuple[int, float]] = []

    async def customer(bucket: TokenBucket, n: int) -> None:
        await bucket.take()
        served.append((n, trio.current_time()))

    async def main() -> None:
        start = trio.current_time()
        bucket = TokenBucket(rate=10.0, burst=5.0)
        async with trio.open_nursery() as nursery:
            for n in range(25):
                nursery.start_soon(customer, bucket, n)
                await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - start == pytest.approx(2.0, abs=0.01)
        await trio.sleep(100)
        assert bucket._burst == 5.0
        async with trio.open_nursery() as nursery:
            for n in range(25, 30):
                nursery.start_soon(customer, bucket, n)
        assert trio.current_time() - start < 103

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [n for n, _ in served[5:25]] == list(range(5, 25))


@pytest.mark.parametrize(
    "host", ["ip4/192.0.2.1", "ip6/2001:db8::1", "dns/a.example", "dns4/a.example", "dns6/a.example"]
)
def test_addresses_that_can_be_dialled(host: str) -> None:
    endpoint = parse_endpoint(f"/{host}/tcp/4001/p2p/{PEER}")
    assert (endpoint.transport, endpoint.peer) == (f"/{host}/tcp/4001", PEER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:4001",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER[:-1]}",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit",
        f"/ip4/192.0.2.300/tcp/4001/p2p/{PEER}",
        f"/ip4/192.0.2.1/tcp/70000/p2p/{PEER}",
        f"/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}",
        f"/unix/etc/tcp/1/p2p/{PEER}",
        f"/dns4/{'x' * 250}/tcp/1/p2p/{PEER}",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}\n",
    ],
)
def test_addresses_that_cannot(text: str) -> None:
    with pytest.raises(SwarmError):
        parse_endpoint(text)
    assert parse_endpoints([text, f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"]) == [
        parse_endpoint(f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}")
    ]


def test_addresses_of_others_are_left_out_when_a_peer_speaks_for_itself() -> None:
    own, other = f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}", f"/ip4/192.0.2.2/tcp/1/p2p/{Identity.generate().peer_id}"
    assert [str(endpoint) for endpoint in parse_endpoints([own, other], PEER)] == [own]


def test_listening_on_everything_is_told_as_real_addresses() -> None:
    assert reachable(parse_listen("/ip4/127.0.0.1/tcp/5")) == ["/ip4/127.0.0.1/tcp/5"]
    assert reachable(Multiaddr("/ip4/0.0.0.0/tcp/5"))[-1] == "/ip4/127.0.0.1/tcp/5"
    assert reachable(Multiaddr("/ip6/::/tcp/5"))[-1] == "/ip6/::1/tcp/5"


def changed(**fields: Any) -> bytes:
    status = Twin().status()
    return encode({name: fields.get(name, getattr(status, name)) for name in Status.__struct_fields__})


def test_a_status_survives_the_wire() -> None:
    assert decode(encode(Twin().status()), Status) == Twin().status()


@pytest.mark.parametrize(
    "fields",
    [
        {"project": bytes(7)},
        {"root": bytes(33)},
        {"count": -1},
        {"count": "3"},
        {"engines": 2_000},
        {"name": "ü" * 17},
        {"role": "x" * 65},
        {"addresses": ["x"] * 9},
        {"addresses": ["x" * 257]},
        {"peers": ["x"] * 17},
        {"version": 0},
        {"engine_ready": 1},
    ],
)
def test_a_status_beyond_its_limits_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        decode(changed(**fields), Status, 16_384)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (messages.ReconcileRequest, {"frame": b""}),
        (messages.ReconcileRequest, {"frame": bytes(messages.RECONCILE_FRAME + 1)}),
        (messages.Reconciled, {"frame": bytes(messages.RECONCILE_FRAME + 1)}),
        (messages.PushRequest, {"envelopes": []}),
        (messages.PushRequest, {"envelopes": [bytes(1)] * 257}),
        (messages.PushRequest, {"envelopes": [bytes(4_097)]}),
        (messages.Pushed, {"stored": 1}),
        (messages.ChainRequest, {"after": -1}),
        (messages.StatementsRequest, {"ids": [bytes(32)] * 257}),
        (messages.StatementsRequest, {"ids": [bytes(31)]}),
        (messages.Statements, {"envelopes": [bytes(5_000)]}),
        (messages.ContentRequest, {"wanted": []}),
        (messages.ContentRequest, {"wanted": [[bytes(32), 0]] * 65}),
        (messages.ContentRequest, {"wanted": [[bytes(32), -1]]}),
        (messages.ClaimsRequest, {"surprise": 1}),
    ],
)
def test_requests_beyond_their_limits_are_refused(kind: type, value: object) -> None:
    with pytest.raises(CodecError):
        decode(encode(value), kind, 1_000_000)
