"""The rules of gossip by themselves: what is left of an RPC, what is asked and given, what is remembered."""

from types import SimpleNamespace
from typing import Any

from libp2p.pubsub.pb import rpc_pb2

from p2pcap.identity import Identity
from p2pcap.swarm import rpcs
from p2pcap.swarm.router import ASKED_IDS, GIVEN_BYTES, Router
from p2pcap.swarm.verdicts import MAX_REJECTED, MAX_RELAYERS, MAX_SEEN, SEEN_SECONDS, Rejected, Seen
from tests.swarm.hostile import NAMES, TOPIC, delimited, message
from tests.swarm.twin import within

SOMEBODY = Identity.from_seed(bytes(32))


def test_what_does_not_concern_us_is_dropped_from_an_rpc() -> None:
    ours, other = NAMES[0], "/p2pcap/1/other/claims"
    sent = rpc_pb2.RPC(
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name) for name in (ours, other)],
        control=rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID=name, messageIDs=[b"id"]) for name in (ours, other)],
            iwant=[rpc_pb2.ControlIWant(messageIDs=[b"id"])],
            graft=[rpc_pb2.ControlGraft(topicID=name) for name in (ours, other)],
            prune=[rpc_pb2.ControlPrune(topicID=ours, backoff=2**40, peers=[rpc_pb2.PeerInfo(peerID=b"x")])],
            idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[b"id"])],
        ),
    )
    got = rpcs.parse(sent.SerializeToString(), NAMES)
    assert [option.topicid for option in got.subscriptions] == [ours]
    assert [entry.topicID for kind in ("ihave", "graft") for entry in getattr(got.control, kind)] == [ours, ours]
    assert [list(entry.messageIDs) for entry in got.control.iwant] == [[b"id"]]
    assert [(entry.backoff, len(entry.peers)) for entry in got.control.prune] == [(3_600, 0)]
    assert not got.control.idontwant
    foreign = delimited(b"\x0a\x06\x12\x04\xff\xfe\xfd\xfc")[1:]
    assert not rpcs.parse(foreign, NAMES).subscriptions, "a subscription whose topic is not UTF-8"


@within(60)
async def test_between_two_heartbeats_so_much_is_asked_of_a_peer_and_given_to_it() -> None:
    asked: list[bytes] = []
    given: list[int] = []

    class Recording(Router):
        async def emit_iwant(self, msg_ids: list[bytes], to_peer: str) -> None:
            asked.extend(msg_ids)

        def send_rpc(self, peer_id: str, rpc: Any, priority: bool = False) -> None:
            given.append(rpc.ByteSize())

    router = Recording(8)
    router.pubsub = SimpleNamespace(seen_messages=Seen(lambda: 0.0))
    ihave = rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"%d" % number for number in range(1_500)])
    messages = [message(SOMEBODY, bytes(50_000)) for _ in range(15)]
    for one in messages:
        router.mcache.put(one)
    iwant = rpc_pb2.ControlIWant(messageIDs=list(router.mcache.msgs))
    for beat in (1, 2):
        for _ in range(3):
            await router.handle_ihave(ihave, "peer")
            await router.handle_iwant(iwant, "peer")
        assert len(asked) == beat * ASKED_IDS
        assert beat * GIVEN_BYTES * 0.9 < sum(given) <= beat * (GIVEN_BYTES + 5 * len(messages))
        router.gossip_heartbeat()
    await router.handle_ihave(ihave, "another")
    assert len(asked) == 2 * ASKED_IDS + 1_500


# what is remembered


def test_a_message_is_remembered_from_its_first_sight_on() -> None:
    now = 0.0
    seen = Seen(lambda: now)
    assert seen.add(b"a")
    now = SEEN_SECONDS - 1
    assert seen.has(b"a")
    assert not seen.add(b"a"), "and not again from here"
    now = SEEN_SECONDS
    assert not seen.has(b"a")
    assert seen.add(b"b")
    assert seen.length() == 1


def test_only_so_many_messages_are_remembered() -> None:
    seen = Seen(lambda: 0.0)
    for number in range(MAX_SEEN + 10):
        seen.add(number.to_bytes(4, "big"))
    assert seen.length() == MAX_SEEN
    assert not seen.has((9).to_bytes(4, "big"))
    assert seen.has((10).to_bytes(4, "big"))


def test_only_so_many_wrong_messages_and_relayers_are_remembered() -> None:
    rejected = Rejected()
    for number in range(MAX_REJECTED + 1):
        assert rejected.charge(b"%d" % number, "p")
    assert b"0" not in rejected
    assert b"1" in rejected
    assert not rejected.charge(b"1", "p")
    for number in range(2 * MAX_RELAYERS):
        assert rejected.charge(b"1", f"p{number}")
    assert len(rejected._relayers[b"1"]) == MAX_RELAYERS


def test_peers_we_chose_keep_half_of_the_mesh() -> None:
    chosen = {f"ours{number}" for number in range(6)}
    router = Router(8, lambda peer: peer in chosen)
    router.mesh["topic"] = chosen | {f"theirs{number}" for number in range(20)}
    pruned = router._select_peers_for_pruning("topic", 18)
    assert len(pruned) == 18
    assert len(chosen - set(pruned)) >= 4
