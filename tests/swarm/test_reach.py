"""Whether a node is reached from outside: what follows from what peers say, and who is dialled back."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from p2pcap.codec import encode
from p2pcap.swarm.frames import frame, write
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.nat import reach
from p2pcap.swarm.nat.evidence import (
    ENOUGH,
    KEEP_SECONDS,
    MAX_PEERS,
    RECHECK_SECONDS,
    RETRY_SECONDS,
    Answer,
    Evidence,
    Reachability,
)
from p2pcap.swarm.nat.messages import Reached, ReachRequest
from p2pcap.swarm.nat.reach import MAX_DIALS, Reach
from p2pcap.swarm.peers import BAD_FRAME
from p2pcap.swarm.requests import Requests
from p2pcap.swarm.settings import SwarmSettings
from tests.swarm.bare import Bare, bare, until
from tests.swarm.twin import within

OWN = "/ip4/192.0.2.7/tcp/4001/p2p/me"
OTHER = "/ip4/192.0.2.7/tcp/4002/p2p/me"
YES = Answer(0.0, "192.0.2.7", 5_000, True, reached=frozenset({OWN}))
NO = Answer(0.0, "192.0.2.7", 5_000, True, failed=frozenset({OWN}))
NOTHING = Answer(0.0)


def concluded(*answers: Answer, now: float = 1.0) -> Reachability:
    evidence = Evidence()
    for number, answer in enumerate(answers):
        evidence.heard(str(number), answer)
    return evidence.conclude(now)


# what follows


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([], "unknown"),
        ([YES], "unknown"),
        ([NO], "unknown"),
        ([YES, NO], "unknown"),
        ([NOTHING, NOTHING, NOTHING], "unknown"),
        ([YES, YES], "public"),
        ([YES, YES, NO], "public"),
        ([YES, YES, NO, NO], "unknown"),
        ([NO, NO], "private"),
        ([NO, NO, YES], "private"),
        ([NO, NO, YES, YES], "unknown"),
        ([NO, NO, NOTHING], "private"),
    ],
)
def test_one_peer_proves_nothing_and_one_liar_swings_nothing(answers: list[Answer], state: str) -> None:
    assert concluded(*answers).state == state


def test_only_what_several_reached_is_proven() -> None:
    both = Answer(0.0, "192.0.2.7", 1, reached=frozenset({OWN, OTHER}))
    one = Answer(0.0, "192.0.2.7", 2, reached=frozenset({OWN}), failed=frozenset({OTHER}))
    assert concluded(both, one) == Reachability("public", (OWN,), ("192.0.2.7",))


def test_two_liars_make_no_address_proven_against_those_who_dialled_in_vain() -> None:
    inner = "/ip4/192.168.1.5/tcp/4001/p2p/me"
    lie = Answer(0.0, "192.0.2.7", 5_000, True, reached=frozenset({inner}))
    assert concluded(NO, NO, NO, lie, lie) == Reachability("private", (), ("192.0.2.7",))


def test_a_peer_counts_once_and_not_for_ever() -> None:
    evidence = Evidence()
    for _ in range(5):
        evidence.heard("liar", YES)
    assert evidence.conclude(1.0).state == "unknown"
    evidence.heard("b", YES)
    assert evidence.conclude(1.0).state == "public"
    assert evidence.conclude(KEEP_SECONDS).state == "unknown"
    evidence.heard("liar", NO)
    assert evidence.conclude(1.0).state == "unknown"
    evidence.clear()
    assert evidence.conclude(1.0) == Reachability()


def test_the_table_of_answers_is_bounded() -> None:
    evidence = Evidence()
    for number in range(10 * MAX_PEERS):
        evidence.heard(str(number), YES)
    assert len(evidence._answers) == MAX_PEERS


def test_the_outside_of_the_dialling_port_is_what_most_see() -> None:
    evidence = Evidence()
    assert (evidence.mappings(0.0), evidence.symmetric(0.0)) == ((), False)
    evidence.heard("a", YES)
    assert evidence.mappings(1.0) == ("/ip4/192.0.2.7/tcp/5000",)
    evidence.heard("listening", Answer(0.0, "192.0.2.7", 4_001, shared=False))
    assert evidence.mappings(1.0) == ("/ip4/192.0.2.7/tcp/5000",)
    evidence.heard("b", Answer(0.0, "192.0.2.7", 5_001, shared=True))
    assert evidence.symmetric(1.0)
    assert len(evidence.mappings(1.0)) == 2
    evidence.heard("c", YES)
    assert (evidence.mappings(1.0), evidence.symmetric(1.0)) == (("/ip4/192.0.2.7/tcp/5000",), False)
    evidence.heard("six", Answer(0.0, "2001:db8::7", 5_000, shared=True))
    evidence.heard("seven", Answer(0.0, "2001:db8::7", 5_000, shared=True))
    assert "/ip6/2001:db8::7/tcp/5000" in evidence.mappings(1.0)


def test_who_is_asked_and_when_again() -> None:
    evidence = Evidence()
    peers = [str(number) for number in range(10)]
    assert evidence.due(peers, 0.0) == peers[:ENOUGH]
    evidence.heard("0", NOTHING)
    assert evidence.due(["0"], RETRY_SECONDS - 1) == []
    assert evidence.due(["0"], RETRY_SECONDS) == ["0"]
    for peer in "012":
        evidence.heard(peer, YES)
    assert evidence.due(peers, 1.0) == []
    assert evidence.due(peers, RECHECK_SECONDS) == peers[:ENOUGH]
    evidence.clear()
    for peer, answer in zip("0123", [YES, YES, NO, NO], strict=True):
        evidence.heard(peer, answer)
    assert evidence.due(peers, 1.0) == ["4", "5", "6", "7"], "they do not agree: more are asked"
    for peer, answer in zip("4567", [YES, YES, NO, NO], strict=True):
        evidence.heard(peer, answer)
    assert evidence.due(peers, 1.0) == [], "but not everybody"


# asking and answering


class Node(Bare):
    """A host that asks and answers; `told` is what it says its addresses are."""

    def __init__(self, one: Bare) -> None:
        super().__init__(one.host)
        self.requests = Requests(one.host, bytes(8), SwarmSettings(request_timeout=8.0), self.blame)
        self.told = [self.address]
        self.others: list[str] = []
        self.reach = Reach(one.host, self.requests, lambda: self.others, lambda: self.told)
        self.reach.serve()

    async def meet(self, *others: Bare) -> None:
        for other in others:
            await self.dial(other)
            self.others.append(other.id)

    async def ask_about(self, other: Bare, *addresses: str) -> Reached:
        return await self.requests.ask(other.id, reach.NAME, ReachRequest(addresses), Reached, reach.MAX_ANSWER)


@asynccontextmanager
async def nodes(count: int, listen: str = "/ip4/127.0.0.1/tcp/0") -> AsyncIterator[Sequence[Node]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [Node(await stack.enter_async_context(bare(listen=listen))) for _ in range(count)]


async def asking(node: Node, state: str) -> Reachability:
    """What it knows of itself when it knows `state`."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.reach.run)
        await until(lambda: node.reach.reachability.state == state)
        nursery.cancel_scope.cancel()
    return node.reach.reachability


@pytest.mark.parametrize("listen", ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"])
@within(20)
async def test_a_node_that_is_reached_learns_so_and_where(listen: str) -> None:
    async with nodes(4, listen) as (node, *others):
        await node.meet(*others)
        found = await asking(node, "public")
        assert found.proven == (node.address,)
        assert found.hosts == (listen.split("/")[2],)
        (port,) = {int(text.split("/")[4]) for text in node.reach.mappings()}
        assert node.network.ports.owns(port)
        assert not node.reach.symmetric
        assert all(other.connections(node) for other in others), "asking costs no connection"


@within(20)
async def test_a_node_that_is_not_reached_learns_so() -> None:
    async with nodes(4) as (node, *others):
        node.told = [f"/ip4/127.0.0.1/tcp/1/p2p/{node.id}"]
        await node.meet(*others)
        assert (await asking(node, "private")).proven == ()


@within(20)
async def test_a_forwarded_port_is_found_though_nobody_told_of_it() -> None:
    """Behind a router the node knows a private address; peers see another, and its listening port is tried there."""
    async with nodes(4) as (node, *others):
        node.told = [node.address.replace("127.0.0.1", "192.168.7.7")]
        await node.meet(*others)
        assert (await asking(node, "public")).proven == (node.address,)


@within(20)
async def test_an_ipv4_peer_is_seen_as_one_by_a_node_that_listens_on_both() -> None:
    async with nodes(1, "/ip6/::/tcp/0") as (other,), nodes(1) as (node,):
        port = other.transport.split("/")[-1]
        await node.network.dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"), other.host.get_id())
        answer = await node.ask_about(other, node.address)
        assert answer.outcomes == ("reached",)
        assert answer.seen.startswith("/ip4/127.0.0.1/")


class Liar(Bare):
    """Says the same to everybody."""

    def __init__(self, one: Bare, outcome: str, seen: str = "/ip4/192.0.2.66/tcp/66") -> None:
        super().__init__(one.host)
        self.answer = {"seen": seen, "outcomes": [outcome]}
        self.host.set_stream_handler(topic_name(bytes(8), reach.NAME), self.lie)

    async def lie(self, stream: Any) -> None:
        await write(stream, frame(encode(self.answer)))
        await stream.close()


@pytest.mark.parametrize(("lie", "truth"), [("failed", "public"), ("reached", "private")])
@within(20)
async def test_a_liar_among_honest_peers_changes_nothing(lie: str, truth: str) -> None:
    async with nodes(3) as (node, *others), bare() as one:
        if truth == "private":
            node.told = [f"/ip4/127.0.0.1/tcp/1/p2p/{node.id}"]
        await node.meet(Liar(one, lie), *others)
        found = await asking(node, truth)
        assert found.hosts == ("127.0.0.1",)
        assert all("192.0.2.66" not in text for text in node.reach.mappings()[:1]) or len(others) < 3


@pytest.mark.parametrize(
    "answer",
    [
        {"seen": "x" * 300, "outcomes": []},
        {"seen": "", "outcomes": ["maybe"]},
        {"seen": "", "outcomes": ["reached"] * 9},
        {"seen": ""},
    ],
)
@within(20)
async def test_a_peer_that_answers_nonsense_proves_nothing_and_is_blamed(answer: dict[str, Any]) -> None:
    async with nodes(1) as (node,), bare() as one:
        liar = Liar(one, "reached")
        liar.answer = answer
        await node.meet(liar)
        await node.reach._ask(liar.id)
        assert node.blamed == [(liar.id, BAD_FRAME)]
        assert node.reach._evidence.conclude(trio.current_time()) == Reachability()


@pytest.mark.parametrize(
    "seen", ["", "garbage", "/ip4/999.0.0.1/tcp/5", "/dns4/localhost/tcp/5", "/ip4/192.0.2.1/tcp/0"]
)
@within(20)
async def test_an_address_that_is_none_is_not_taken_for_ours(seen: str) -> None:
    async with nodes(1) as (node,), bare() as one:
        liar = Liar(one, "refused", seen)
        await node.meet(liar)
        await node.reach._ask(liar.id)
        assert (node.blamed, node.reach.mappings()) == ([], ())


@within(20)
async def test_nobody_is_made_to_dial_a_third() -> None:
    async with nodes(2) as (node, other), bare() as victim:
        hit = trio.Event()
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.2"))[0]
        port = listener.socket.getsockname()[1]

        async def accept() -> None:
            await listener.accept()
            hit.set()

        await node.meet(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            answer = await node.ask_about(
                other,
                f"/ip4/127.0.0.2/tcp/{port}/p2p/{node.id}",
                f"/dns4/localhost/tcp/{port}/p2p/{node.id}",
                victim.address,
                f"{other.address}/p2p-circuit/p2p/{node.id}",
                "/ip4/127.0.0.1/tcp/5",
                "nonsense",
            )
            assert answer.outcomes == ("refused",) * 6
            nursery.cancel_scope.cancel()
        await listener.aclose()
        assert not hit.is_set()


@within(20)
async def test_another_peer_that_answers_there_is_not_us() -> None:
    async with nodes(2) as (node, other), bare() as third:
        await node.meet(other)
        answer = await node.ask_about(other, f"{third.transport}/p2p/{node.id}", node.address)
        assert answer.outcomes == ("failed", "reached")


@within(20)
async def test_dials_back_are_few_and_far_between() -> None:
    async with nodes(2) as (node, other):
        await node.meet(other)
        many = [f"/ip4/127.0.0.1/tcp/{port}/p2p/{node.id}" for port in range(1, 9)]
        assert (await node.ask_about(other, *many)).outcomes == ("failed",) * MAX_DIALS + ("refused",) * 4
        assert (await node.ask_about(other, node.address)).outcomes == ("refused",)
        for number in range(1_000):
            other.reach._turn(str(number), "one address", trio.current_time())
        assert len(other.reach._answered) == 1 + reach.PER_PLACE
        assert other.reach._turn("honest", "another address", trio.current_time())
        for number in range(1_000):
            other.reach._turn(f"x{number}", str(number), trio.current_time())
        assert len(other.reach._answered) == reach.MAX_PEERS
        assert not other.reach._turn("another", "place", trio.current_time())
        assert other.reach._turn("another", "place", trio.current_time() + reach.EVERY_SECONDS)


@within(20)
async def test_a_port_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "DIAL_SECONDS", 0.3)
    async with nodes(2) as (node, other):
        silent = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        await node.meet(other)
        address = f"/ip4/127.0.0.1/tcp/{silent.socket.getsockname()[1]}/p2p/{node.id}"
        assert (await node.ask_about(other, address)).outcomes == ("failed",)
        await silent.aclose()


@within(20)
async def test_new_addresses_of_our_own_make_old_answers_void() -> None:
    async with nodes(4) as (node, *others):
        await node.meet(*others)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.reach.run)
            await until(lambda: node.reach.reachability.state == "public")
            node.told = [f"/ip4/127.0.0.1/tcp/1/p2p/{node.id}"]
            for other in others:
                other.reach._answered.clear()
            node.reach.wake()
            await until(lambda: node.reach.reachability.state == "private")
            nursery.cancel_scope.cancel()
