"""What gossip did not bring, sync does."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamEOF, StreamReset

from p2pcap.codec import decode, encode
from p2pcap.errors import RequestFailed
from p2pcap.identity import Identity
from p2pcap.ledger.index import Index
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.swarm import messages
from p2pcap.swarm.frames import FrameReader, frame
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.messages import PUSH_BYTES, RECONCILE_FRAME, STATEMENTS_PAGE
from p2pcap.swarm.requests import MAX_REQUEST, send
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.swarm import Swarm
from p2pcap.swarm.sync import MAX_FRAME, RECONCILE_TOKEN_BYTES, STIR
from tests.swarm.twin import ROOT, Stranger, Twin, hash_of, node, stranger, within


def statements(count: int, mark: bytes = b"statement") -> list[bytes]:
    return [mark + b" %d" % n for n in range(count)]


def ordered_identities() -> tuple[Identity, Identity]:
    """Two identities, the first with the lower peer id: of two nodes that just connected, it begins."""
    lower, higher = sorted((Identity.generate() for _ in range(2)), key=lambda identity: identity.peer_id)
    return lower, higher


@within(60)
async def test_a_late_joiner_gets_everything_over_several_rounds() -> None:
    everything = statements(4_596)
    async with node() as (a, at_a):
        at_a.hold(*everything)
        at_a.live_claims = [b"a claim", b"another"]
        async with node(a.addresses[0]) as (_, at_b):
            await at_b.until(lambda: at_b.held.keys() >= at_a.held.keys())
            assert Counter(at_b.received) == Counter([*everything, b"a claim", b"another"])
            assert at_a.asked_frames > 1
            assert at_b.asked_frames == 0, "nobody begins with a peer that holds nothing"


@within(60)
@pytest.mark.parametrize("lower_dials", [True, False])
async def test_two_halves_of_a_partition_end_up_equal_in_one_conversation(lower_dials: bool) -> None:
    lower, higher = ordered_identities()
    shared, left, right = statements(50), statements(300, b"left"), statements(300, b"right")
    async with node(identity=lower) as (a, at_a), node(identity=higher) as (b, at_b):
        at_a.hold(*left, *shared)
        at_b.hold(*right, *shared)
        await (a.connect(b.addresses[0]) if lower_dials else b.connect(a.addresses[0]))
        await at_a.until(lambda: len(at_a.held) == 650)
        await at_b.until(lambda: len(at_b.held) == 650)
        assert (Counter(at_a.received), Counter(at_b.received)) == (Counter(right), Counter(left))
        assert (at_a.asked_frames, at_b.asked_frames > 0) == (0, True), "the one with the lower id begins"


@within(60)
async def test_the_higher_id_begins_when_it_holds_nothing() -> None:
    lower, higher = ordered_identities()
    async with node(identity=lower) as (a, at_a):
        at_a.hold(*statements(3))
        async with node(a.addresses[0], identity=higher) as (_, at_b):
            await at_b.until(lambda: len(at_b.held) == 3)


@within(60)
async def test_what_was_learned_at_once_travels_on_without_waiting() -> None:
    """A chain of three: the last one learns from the middle one, long before a period is over."""
    async with node() as (middle, at_middle), node(middle.addresses[0], links=1) as (last, at_last):
        await at_middle.met(last)
        await at_last.met(middle)
        at_last.hold(b"something")
        async with node(links=1) as (first, at_first):
            at_first.hold(*statements(STIR))
            await first.connect(middle.addresses[0])
            await at_last.until(lambda: len(at_last.held) == STIR + 1)


@within(60)
async def test_equal_sets_exchange_nothing_but_a_status() -> None:
    async with node() as (a, at_a), node() as (b, at_b):
        for twin in (at_a, at_b):
            twin.hold(*statements(10))
        await b.connect(a.addresses[0])
        await at_a.met(b)
        await at_b.met(a)
        await b._sync.reconcile(a.peer_id, await b.status(a.peer_id))
        assert (at_a.asked_frames, at_b.asked_frames) == (0, 0)


@within(60)
async def test_a_lost_message_is_repaired_within_a_period() -> None:
    async with node() as (a, at_a), node(a.addresses[0], sync_every=0.2) as (_b, at_b):
        await at_b.met(a)
        at_b.verdicts[b"lost on the way"] = Judgement.IGNORE
        await a.publish("results", b"lost on the way")
        at_a.hold(b"lost on the way")
        await at_b.until(lambda: b"lost on the way" in at_b.held.values())
        assert at_b.received == [b"lost on the way"]


@within(60)
async def test_sync_soon_repairs_both_sides() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        at_a.hold(*statements(STATEMENTS_PAGE + 1))
        at_b.hold(b"only here")
        b.sync_soon(a.peer_id)
        await at_b.until(lambda: len(at_b.held) == STATEMENTS_PAGE + 2)
        await at_a.until(lambda: len(at_a.held) == STATEMENTS_PAGE + 2)


@within(60)
async def test_large_statements_are_pushed_in_pages() -> None:
    large = [statement.ljust(messages.MAX_ENVELOPE, b".") for statement in statements(40)]
    assert sum(map(len, large)) > 2 * PUSH_BYTES
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        at_a.hold(b"something")
        at_b.hold(b"something", *large)
        await b._sync.reconcile(a.peer_id, await b.status(a.peer_id))
        assert Counter(at_a.received) == Counter(large)


@within(60)
async def test_checkpoints_and_statements_are_asked_for_by_name() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        at_a.checkpoints = [b"first", b"second", b"third"]
        at_a.hold(b"a statement")
        assert await b.chain(a.peer_id, 1) == [b"second", b"third"]
        assert await b.statements(a.peer_id, [bytes(32), hash_of(b"a statement")]) == [b"a statement"]


# strangers


class Liar:
    """A stranger that answers requests as told, and counts them."""

    def __init__(self, host: Stranger) -> None:
        self.peer_id = host.peer_id
        self.asked: Counter[str] = Counter()
        self._host = host.host

    def answers(self, name: str, answer: object) -> None:
        async def serve(stream: Any) -> None:
            await FrameReader(stream).read(MAX_FRAME)
            self.asked[name] += 1
            await send(stream, answer)
            await stream.close()

        self._host.set_stream_handler(topic_name(ROOT[:8], name), serve)


HOLDS_MUCH = messages.Status(
    project=ROOT[:8], root=ROOT, manifest_version=1, manifest=bytes(32), count=2**40, digest=bytes(32)
)


def listing(*statements: bytes) -> messages.Reconciled:
    """What a peer with these statements answers to one that holds nothing."""
    index = Index()
    for statement in statements:
        index.add(0, hash_of(statement))
    return messages.Reconciled(respond(index, Reconciliation(Index(), RECONCILE_FRAME).first(), RECONCILE_FRAME))


async def begun(a: Swarm, liar: Liar) -> float:
    """A node's score for a peer after a conversation with it that failed."""
    with pytest.raises(RequestFailed):
        await a._sync.reconcile(liar.peer_id, HOLDS_MUCH)
    return round(a.peers()[0].score) if a.peers() else -100


@within(30)
@pytest.mark.parametrize("said", [b"\x62", b"\xff" * 100, b"\x61\x00\x00\x02\xff\xff\x7f", bytes(9)])
async def test_a_malformed_answer_ends_a_conversation_and_costs_standing(said: bytes) -> None:
    async with node() as (a, _), stranger(a) as host:
        liar = Liar(host)
        liar.answers("reconcile", messages.Reconciled(said))
        assert await begun(a, liar) == -20
        assert liar.asked == {"reconcile": 1}


@within(30)
async def test_a_list_without_statements_ends_a_conversation() -> None:
    async with node() as (a, _), stranger(a) as host:
        liar = Liar(host)
        liar.answers("reconcile", listing(b"a", b"b"))
        liar.answers("statements", messages.Statements([]))
        assert await begun(a, liar) == -2
        assert liar.asked == {"reconcile": 1, "statements": 1}


@within(30)
@pytest.mark.parametrize(("invalid", "score"), [(1, -10), (3, -30), (255, -100)])
async def test_invalid_statements_end_a_conversation_and_cost_standing(invalid: int, score: int) -> None:
    lies = statements(invalid, b"lie")
    async with node() as (a, at_a), stranger(a) as host:
        at_a.invalid = set(lies)
        liar = Liar(host)
        liar.answers("reconcile", listing(*lies, b"a truth"))
        liar.answers("statements", messages.Statements([*lies, b"a truth"]))
        assert await begun(a, liar) == score
        assert list(at_a.held.values()) == [b"a truth"]
        assert liar.asked == {"reconcile": 1, "statements": 1}


@within(30)
async def test_no_more_statements_are_taken_than_were_asked_for() -> None:
    async with node() as (a, at_a), stranger(a) as host:
        liar = Liar(host)
        liar.answers("reconcile", listing(b"a"))
        liar.answers("statements", messages.Statements([b"a", b"b", b"c"]))
        await a._sync.reconcile(liar.peer_id, HOLDS_MUCH)
        assert at_a.received == [b"a"]


@within(30)
@pytest.mark.parametrize("said", [b"\xff", b"\x61\x00", b"\x61\x00\x00\x02\xff\xff\x7f", b"\x61\x00\x00\x03"])
async def test_a_malformed_frame_gets_no_answer_and_costs_standing(said: bytes) -> None:
    async with node() as (a, at_a), stranger(a) as host:
        stream = await host.open(topic_name(ROOT[:8], "reconcile"))
        await stream.write(frame(encode(messages.ReconcileRequest(said))))
        with pytest.raises((StreamEOF, StreamReset)):
            await FrameReader(stream).read(MAX_REQUEST)
        assert round(a.peers()[0].score) == -20
        assert at_a.asked_frames == 1


@within(60)
async def test_silent_peers_do_not_hold_up_the_comparison_with_others() -> None:
    async def silent(stream: Any) -> None:
        await trio.sleep_forever()

    async with AsyncExitStack() as stack:
        a, at_a = await stack.enter_async_context(node())
        b, at_b = await stack.enter_async_context(node(sync_every=0.1, request_timeout=120.0))
        for _ in range(3):
            host = await stack.enter_async_context(stranger(b))
            host.host.set_stream_handler(topic_name(ROOT[:8], "status"), silent)
        await b.connect(a.addresses[0])
        await at_b.met(a)
        for statement in statements(8):
            at_a.hold(statement)
            await at_b.until(partial(at_b.held.__contains__, hash_of(statement)))


@within(30)
async def test_frames_of_reconciliation_are_dear() -> None:
    async with node() as (a, _), stranger(a) as host:
        stream = await host.open(topic_name(ROOT[:8], "reconcile"))
        await stream.write(frame(encode(messages.ReconcileRequest(b"\x61" + b"\x01\x00\x00" * 10_000))))
        decode(await FrameReader(stream).read(MAX_FRAME), messages.Reconciled)
        bucket = a._requests._for(host.peer_id)[0]
        assert bucket._burst - bucket._tokens == 1 + 30_000 // RECONCILE_TOKEN_BYTES


async def push(host: Stranger, envelopes: Sequence[bytes]) -> Any:
    """The stream on which the answer comes."""
    stream = await host.open(topic_name(ROOT[:8], "push"))
    await stream.write(frame(encode(messages.PushRequest(list(envelopes)))))
    return stream


@within(30)
async def test_a_push_is_stored_before_it_is_answered() -> None:
    class Slow(Twin):
        def __init__(self) -> None:
            super().__init__()
            self.begun, self.may_store = trio.Event(), trio.Event()

        async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
            self.begun.set()
            await self.may_store.wait()
            return await super().receive(envelopes, sender)

    slow = Slow()
    stored_when_answered: list[list[bytes]] = []

    async def answered(stream: Any) -> None:
        decode(await FrameReader(stream).read(MAX_REQUEST), messages.Pushed)
        stored_when_answered.append(list(slow.received))

    async with node(twin=slow) as (a, _), stranger(a) as host, trio.open_nursery() as nursery:
        nursery.start_soon(answered, await push(host, [b"one", b"two"]))
        await slow.begun.wait()
        stream = await host.open(topic_name(ROOT[:8], "claims"))
        await stream.write(frame(encode(messages.ClaimsRequest())))
        await FrameReader(stream).read(MAX_REQUEST)  # an answer that came at once would have overtaken this one
        assert not stored_when_answered
        slow.may_store.set()
    assert stored_when_answered == [[b"one", b"two"]]


@within(30)
async def test_who_pushes_what_is_invalid_is_banned_in_the_end() -> None:
    lies = statements(10, b"lie")
    async with node() as (a, at_a), stranger(a) as host:
        at_a.invalid = set(lies)
        stream = await push(host, [*lies[:4], b"a truth"])
        decode(await FrameReader(stream).read(MAX_REQUEST), messages.Pushed)
        assert round(a.peers()[0].score) == -40
        assert list(at_a.held.values()) == [b"a truth"]
        await push(host, lies[3:])
        await at_a.until(lambda: ("disconnect", host.peer_id) in at_a.events)
