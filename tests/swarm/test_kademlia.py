"""The pure parts of the hash table: whom a node knows, what it keeps, what it says, and how it searches."""

import random
from typing import Any

import base58
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr

from p2pcap.errors import FrameError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint, parse_endpoint
from p2pcap.swarm.discovery import lookup as lookup_module
from p2pcap.swarm.discovery import providers
from p2pcap.swarm.discovery.kad_messages import (
    ADD_PROVIDER,
    FIND_NODE,
    GET_PROVIDERS,
    MAX_CONTACTS,
    MAX_MESSAGE,
    PING,
    Answer,
    Question,
    read_answer,
    read_question,
    write_answer,
    write_question,
)
from p2pcap.swarm.discovery.kademlia import (
    BUCKET,
    BUCKETS,
    MAX_ADDRESSES,
    PER_NETWORK,
    STALE_SECONDS,
    Contact,
    Table,
    contact_at,
    nearest,
    place,
    tellable,
)
from p2pcap.swarm.discovery.lookup import BAD_TIPS, MAX_PROVIDERS, MAX_QUESTIONS, Lookup
from p2pcap.swarm.discovery.providers import KEEP_SECONDS, MAX_PER_KEY, MAX_PER_PEER, Providers

OWN = Identity.from_seed(b"o" * 32).peer_id
KEY = b"k" * 32


def node(n: int, transport: str = "/ip4/10.0.0.1/tcp/{}") -> Contact:
    """The n-th node; by default on a local network, where no network is counted."""
    peer = Identity.from_seed(n.to_bytes(32, "big")).peer_id
    found = contact_at(peer, [Endpoint(transport.format(n % 60_000 + 1), peer)])
    assert found is not None
    return found


NODES = [node(n) for n in range(400)]

# whom a node knows


def test_the_nearest_of_those_who_answer_are_told() -> None:
    table = Table(OWN)
    known = [one for one in NODES if table.heard(one, 0.0)]
    for target in (place(KEY), table.place, 0, 2**256 - 1):
        assert table.nearest(target) == nearest(known, target, BUCKET)
    assert len(table) == len(known) <= BUCKET * BUCKETS
    assert all(one in known for one in nearest(NODES, table.place, BUCKET // 2)), "those near us are all known"


def test_a_flood_of_new_nodes_drives_out_nobody_who_answers() -> None:
    table = Table(OWN)
    old = [one for one in NODES[:100] if table.heard(one, 0.0)]
    for one in NODES[100:]:
        table.heard(one, 1.0)
    assert all(one.peer in table for one in old)


def test_who_does_not_answer_is_not_told_and_makes_room() -> None:
    table = Table(OWN)
    full = [one for one in NODES if one.place >> 255 != table.place >> 255]
    for one in full[:BUCKET]:
        assert table.heard(one, 0.0)
    assert not table.heard(full[BUCKET], 0.0)
    table.failed(full[0].peer)
    assert full[0].peer in table
    assert full[0] not in table.nearest(full[0].place)
    assert table.heard(full[BUCKET], 0.0)
    assert full[0].peer not in table
    table.failed(full[1].peer)
    table.heard(full[1], 0.0)
    table.failed(full[1].peer)
    assert full[1].peer in table, "one answer makes good for one silence"
    table.failed(full[1].peer)
    assert full[1].peer not in table


def test_who_was_not_heard_of_for_long_is_asked() -> None:
    table = Table(OWN)
    table.heard(NODES[0], 0.0)
    table.heard(NODES[1], STALE_SECONDS)
    assert table.stale(STALE_SECONDS + 1) == [NODES[0]]
    table.failed(NODES[1].peer)
    assert set(table.stale(STALE_SECONDS + 1)) == {NODES[0], NODES[1]}


def test_one_network_gets_only_so_much_of_a_bucket_and_we_are_not_in_our_own() -> None:
    table = Table(OWN)
    far = [n for n in range(400) if NODES[n].place >> 255 != table.place >> 255]
    taken = [table.heard(node(n, "/ip4/198.51.100.7/tcp/{}"), 0.0) for n in far[:5]]
    assert taken == [True] * PER_NETWORK + [False] * 3
    assert table.heard(node(far[5], "/ip4/203.0.113.7/tcp/{}"), 0.0)
    own = contact_at(OWN, [Endpoint("/ip4/10.0.0.1/tcp/1", OWN)])
    assert own is not None
    assert not table.heard(own, 0.0)


def test_hearsay_does_not_replace_an_address_that_worked() -> None:
    table = Table(OWN)
    elsewhere = Contact(NODES[0].peer, ("/ip4/10.9.9.9/tcp/1",), NODES[0].place)
    table.heard(NODES[0], 0.0)
    table.heard(elsewhere, 0.0, proven=False)
    assert table.nearest(0) == [NODES[0]]
    table.heard(elsewhere, 0.0)
    assert table.nearest(0)[0].transports == elsewhere.transports


def test_addresses_that_help_nobody_are_not_told_to_the_world() -> None:
    ends = [Endpoint(f"/ip4/{ip}/tcp/1", OWN) for ip in ("127.0.0.1", "192.168.1.2", "198.51.100.7")]
    ends += [Endpoint(f"/ip6/{ip}/tcp/1", OWN) for ip in ("::1", "fe80::1", "2001:db8::1")]
    assert tellable(ends) == [ends[2], ends[5]]
    assert tellable(ends[:2]) == ends[:2]
    relayed = [parse_endpoint(f"/ip4/198.51.100.7/tcp/1/p2p/{NODES[0].peer}/p2p-circuit/p2p/{OWN}")]
    assert contact_at(OWN, relayed) is None
    assert contact_at(OWN, relayed, relayed=True) is not None


# what it keeps for others


def test_providers_are_kept_for_a_while() -> None:
    kept = Providers(place(b""))
    kept.add(KEY, NODES[0], "a", 0.0)
    kept.add(KEY, NODES[1], "a", 10.0)
    assert set(kept.of(KEY, 11.0)) == {NODES[0], NODES[1]}
    kept.add(KEY, NODES[0], "a", 20.0)
    assert set(kept.of(KEY, KEEP_SECONDS + 15)) == {NODES[0]}
    assert kept.of(KEY, 2 * KEEP_SECONDS + 1) == []
    assert kept.of(b"other", 0.0) == []
    assert len(kept) == 0


def test_a_crowd_from_one_network_does_not_drive_others_out_of_a_key() -> None:
    kept = Providers(place(b""))
    kept.add(KEY, NODES[0], "honest", 0.0)
    for n, one in enumerate(NODES[1:200]):
        kept.add(KEY, one, "crowd", 1.0 + n)
    assert len(kept) == MAX_PER_KEY
    for one in NODES[200:205]:
        kept.add(KEY, one, "another", 300.0)
    kept.add(KEY, NODES[206], "honest too", 301.0)
    kept.add(KEY, NODES[207], "crowd", 302.0)
    told = {one.peer for _ in range(200) for one in kept.of(KEY, 303.0)}
    assert len(told) == MAX_PER_KEY
    assert {NODES[0].peer, NODES[206].peer, *(one.peer for one in NODES[200:205])} <= told


def test_a_flood_of_keys_drives_out_the_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "MAX_RECORDS", 256)
    own = place(b"")
    kept = Providers(own)
    keys = [n.to_bytes(32, "big") for n in range(512)]
    for n, key in enumerate(keys):
        kept.add(key, node(1_000 + n // MAX_PER_PEER), "a", 0.0)
    assert len(kept) == 256
    left = [key for key in keys if kept.of(key, 0.0)]
    assert set(left) == set(sorted(keys, key=lambda key: place(key) ^ own)[:256])


def test_one_peer_provides_only_so_much() -> None:
    kept = Providers(place(b""))
    for n in range(2 * MAX_PER_PEER):
        kept.add(bytes([n]), NODES[0], "a", 0.0)
    assert len(kept) == MAX_PER_PEER


# what nodes say to each other


@pytest.mark.parametrize("kind", [FIND_NODE, GET_PROVIDERS, ADD_PROVIDER, PING])
def test_what_is_written_is_read(kind: int) -> None:
    for question in (Question(kind, KEY), Question(kind, KEY, NODES[0], NODES[0])):
        assert read_question(write_question(question), NODES[0].peer) == question
    answer = Answer(tuple(NODES[:10]), tuple(NODES[10:20]))
    assert read_answer(write_answer(kind, answer), kind) == answer
    assert read_answer(write_answer(kind, answer), kind).closer[0].place == NODES[0].place


def test_a_long_answer_leaves_out_the_farthest() -> None:
    long = [
        Contact(
            one.peer, tuple(f"/dns4/{'x' * 60}.{'y' * 60}.{'z' * 60}/tcp/{n}" for n in range(MAX_ADDRESSES)), one.place
        )
        for one in NODES[:MAX_CONTACTS]
    ]
    data = write_answer(GET_PROVIDERS, Answer(tuple(long), tuple(long[:5])))
    assert MAX_MESSAGE * 0.9 < len(data) <= MAX_MESSAGE
    answer = read_answer(data, GET_PROVIDERS)
    assert answer.providers == tuple(long[:5])
    assert answer.closer == tuple(long[: len(answer.closer)])


def _message(**fields: Any) -> bytes:
    return bytes(Message(**fields).SerializeToString())


def _peer(one: Contact, **fields: Any) -> Message.Peer:
    addresses = [Multiaddr(transport).to_bytes() for transport in one.transports]
    return Message.Peer(**({"id": base58.b58decode(one.peer), "addrs": addresses} | fields))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        _message(type=Message.PUT_VALUE, key=KEY),
        _message(type=Message.GET_VALUE, key=KEY),
        _message(type=FIND_NODE),
        _message(type=FIND_NODE, key=b"x" * 65),
        _message(type=ADD_PROVIDER, key=KEY, providerPeers=[_peer(NODES[1])]),
        _message(type=FIND_NODE, key=KEY, closerPeers=[_peer(NODES[1])]),
    ],
)
def test_a_question_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_question(data, NODES[0].peer)


def test_an_answer_is_looked_at_with_care() -> None:
    strange = [
        _peer(NODES[1], id=b""),
        _peer(NODES[1], id=b"\x12\x20" + bytes(32)),
        _peer(NODES[1], id=b"x" * 10_000),
        _peer(NODES[1], addrs=[]),
        _peer(
            NODES[1], addrs=[b"\xff" * 9, b"", b"\x36\x03a/b\x06\x00\x01", Multiaddr("/ip4/1.2.3.4/udp/1").to_bytes()]
        ),
        _peer(NODES[2], addrs=[b"\xff"] * 7 + [Multiaddr(NODES[2].transports[0]).to_bytes()] * 50),
    ]
    found = read_answer(_message(type=FIND_NODE, closerPeers=strange), FIND_NODE)
    assert found.closer == (NODES[2],)
    many = _message(type=FIND_NODE, closerPeers=[_peer(one) for one in NODES])
    assert len(read_answer(many, FIND_NODE).closer) == MAX_CONTACTS
    with pytest.raises(FrameError, match="another question"):
        read_answer(many, GET_PROVIDERS)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in (lambda: read_question(data, OWN), lambda: read_answer(data, FIND_NODE)):
        try:
            read()
        except FrameError:
            continue


# how it searches


class World:
    """Nodes that answer from tables of their own; `lies` maps a node to what it answers instead."""

    def __init__(self, nodes: list[Contact], known: int = 12) -> None:
        self.nodes = {one.peer: one for one in nodes}
        self.asked: list[str] = []
        self.dead: set[str] = set()
        self.lies: dict[str, Answer] = {}
        self.providers: dict[str, tuple[Contact, ...]] = {}
        chance = random.Random(1)
        self._known = {one.peer: [*nearest(nodes, one.place, 5)[1:], *chance.sample(nodes, known - 4)] for one in nodes}

    async def ask(self, node: Contact) -> Answer:
        self.asked.append(node.peer)
        await trio.lowlevel.checkpoint()
        if node.peer in self.lies:
            return self.lies[node.peer]
        if node.peer in self.dead or node.peer not in self.nodes:
            raise Unreachable("down")
        closer = nearest(self._known[node.peer], place(KEY), BUCKET)
        return Answer(tuple(closer), self.providers.get(node.peer, ()))

    def search(self, *start: Contact) -> Lookup:
        lookup = Lookup(place(KEY), OWN, start, self.ask)

        async def main() -> None:
            with trio.fail_after(20):
                await lookup.run()

        trio.run(main)
        return lookup


def test_a_search_finds_the_nearest_nodes_from_any_node() -> None:
    world = World(NODES[:200])
    right = nearest(NODES[:200], place(KEY), 3)
    world.providers = {right[0].peer: (NODES[300],)}
    for start in NODES[:5]:
        world.asked.clear()
        lookup = world.search(start)
        assert lookup.closest[:3] == right
        assert lookup.providers == [NODES[300]]
        assert len(world.asked) == len(set(world.asked)) <= MAX_QUESTIONS


def test_dead_nodes_are_gone_around() -> None:
    world = World(NODES[:200], known=25)
    world.dead = {one.peer for one in NODES[10:200:3]}
    alive = [one for one in NODES[:200] if one.peer not in world.dead]
    assert world.search(NODES[0], NODES[1]).closest[0] in nearest(alive, place(KEY), 3)


def test_nobody_to_ask_and_nobody_there() -> None:
    world = World(NODES[:30])
    assert world.search().closest == []
    world.dead = set(world.nodes)
    assert world.search(NODES[0]).closest == []
    assert world.asked == [NODES[0].peer]


def test_a_liar_that_names_near_nodes_that_are_none_costs_a_few_questions() -> None:
    world = World(NODES[:200])
    ghosts = nearest([node(n) for n in range(10_000, 12_000)], place(KEY), MAX_CONTACTS)
    liar = NODES[0]
    world.lies[liar.peer] = Answer(tuple(ghosts), tuple(ghosts))
    world.providers = {one.peer: (NODES[300],) for one in nearest(NODES[:200], place(KEY), 3)}
    lookup = world.search(liar, NODES[1])
    ghost_questions = [peer for peer in world.asked if peer not in world.nodes]
    assert len(ghost_questions) <= BAD_TIPS + lookup_module.ABREAST
    assert NODES[300] in lookup.providers[:2]
    assert lookup.closest[0] == nearest(NODES[:200], place(KEY), 1)[0]


def test_liars_that_name_ever_nearer_ones_end() -> None:
    asked = 0

    async def ask(_: Contact) -> Answer:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        numbers = range(asked * MAX_CONTACTS, (asked + 1) * MAX_CONTACTS)
        tips = tuple(Contact(f"peer {n}", ("t",), place(KEY) ^ (2**200 - n)) for n in numbers)
        return Answer(tips, tips)

    lookup = Lookup(place(KEY), OWN, [NODES[0]], ask)
    trio.run(lookup.run)
    assert asked == MAX_QUESTIONS
    assert len(lookup.providers) == MAX_PROVIDERS
