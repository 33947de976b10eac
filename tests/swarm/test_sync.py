"""What gossip did not bring, sync does."""

from collections.abc import Sequence
from typing import Any

import trio

from p2pcap.errors import RequestFailed
from p2pcap.swarm import messages
from p2pcap.swarm.frames import FrameReader
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.messages import IDS_PAGE, STATEMENTS_PAGE
from p2pcap.swarm.requests import MAX_REQUEST, send
from p2pcap.swarm.service import Judgement
from tests.swarm.twin import ROOT, Twin, hash_of, node, stranger, within


def statements(count: int, mark: bytes = b"statement") -> list[bytes]:
    return [mark + b" %d" % n for n in range(count)]


@within(60)
async def test_a_late_joiner_gets_everything_over_several_pages() -> None:
    everything = statements(IDS_PAGE + 500)
    async with node() as (a, at_a):
        at_a.hold(*everything)
        at_a.live_claims = [b"a claim", b"another"]
        async with node(a.addresses[0]) as (_, at_b):
            await at_b.until(lambda: at_b.held.keys() >= at_a.held.keys())
            assert set(at_b.received) == {*everything, b"a claim", b"another"}


@within(60)
async def test_two_halves_of_a_partition_end_up_equal() -> None:
    async with node() as (a, at_a), node() as (b, at_b):
        at_a.hold(*statements(300, b"left"), *statements(50))
        at_b.hold(*statements(300, b"right"), *statements(50))
        await b.connect(a.addresses[0])
        await at_a.until(lambda: len(at_a.held) == 650)
        await at_b.until(lambda: len(at_b.held) == 650)
        assert not set(at_a.received) & set(statements(50)), "what was there was not fetched again"


@within(60)
async def test_equal_sets_exchange_nothing_but_a_status() -> None:
    class Counting(Twin):
        asked = 0

        async def ids(self, after: bytes, limit: int) -> list[bytes]:
            self.asked += 1
            return await super().ids(after, limit)

    async with node(twin=Counting()) as (a, at_a), node(twin=Counting()) as (b, at_b):
        for twin in (at_a, at_b):
            twin.hold(*statements(10))
        await b.connect(a.addresses[0])
        await at_a.met(b)
        await at_b.met(a)
        await b._sync.pull(a.peer_id, await b.status(a.peer_id))
        assert isinstance(at_a, Counting)
        assert at_a.asked == 0


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
async def test_sync_soon_fetches_what_is_new() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        at_a.hold(*statements(STATEMENTS_PAGE + 1))
        b.sync_soon(a.peer_id)
        await at_b.until(lambda: len(at_b.held) == STATEMENTS_PAGE + 1)


async def listed(ids: Sequence[bytes]) -> tuple[float, int]:
    """A node's score for a peer that lists `ids` and delivers none of them, and how often it asked for pages."""
    asked = 0
    theirs = messages.Status(
        project=ROOT[:8], root=ROOT, manifest_version=1, manifest=bytes(32), count=2**40, digest=bytes(32)
    )

    async def answer_ids(stream: Any) -> None:
        nonlocal asked
        asked += 1
        await FrameReader(stream).read(MAX_REQUEST)
        await send(stream, messages.Ids(list(ids)))
        await stream.close()

    async def answer_statements(stream: Any) -> None:
        await FrameReader(stream).read(MAX_REQUEST)
        await send(stream, messages.Statements([]))
        await stream.close()

    async with node() as (a, _), stranger(a) as liar:
        liar.host.set_stream_handler(topic_name(ROOT[:8], "ids"), answer_ids)
        liar.host.set_stream_handler(topic_name(ROOT[:8], "statements"), answer_statements)
        while a._sync._busy:
            await trio.lowlevel.checkpoint()
        before = asked
        try:
            await a._sync.pull(liar.peer_id, theirs)
        except RequestFailed:
            return a.peers()[0].score, asked - before
        return 0.0, asked - before


@within(30)
async def test_ids_out_of_order_end_a_sync() -> None:
    score, asked = await listed([bytes([n]) * 32 for n in (3, 2, 1)])
    assert (round(score), asked) == (-20, 1)


@within(30)
async def test_ids_without_statements_end_a_sync() -> None:
    score, asked = await listed([hash_of(b"a"), hash_of(b"b")][:1])
    assert (round(score), asked) == (-2, 1)
