"""js-libp2p against a swarm node on real sockets: connections, gossip, requests, content by hash."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
import trio

from p2pcap.swarm.content import ANSWER_BYTES
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.messages import Status
from p2pcap.swarm.swarm import Swarm
from tests.interop.js import JsPeer, js_peer
from tests.swarm.twin import ROOT, Twin, hash_of, holds, node, within
from tests.vectors.statements import GRANT, claim

pytestmark = pytest.mark.usefixtures("installed")

SEED = bytes([7]) * 32
QUIET_SECONDS = 25.0
BIG = bytes(range(251)) * 40_000
assert len(BIG) > 2 * ANSWER_BYTES


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Swarm, Twin, JsPeer]]:
    """A node and a js peer that has dialled it; each knows what the other listens to."""
    async with node() as (here, at_here), js_peer(ROOT, SEED) as js:
        await js.do("dial", address=here.addresses[0])
        await at_here.until(lambda: js.peer_id in at_here.statuses)
        await js.do("publish", topic="claims", data=b"first".hex())
        await at_here.until(lambda: ("claims", js.peer_id, b"first") in at_here.heard)
        yield here, at_here, js


async def stay_quiet() -> list[str]:
    """Which peers are connected after a connection on which nobody had anything to say."""
    with trio.fail_after(QUIET_SECONDS + 60):
        async with node(sync_every=3_600.0) as (here, at_here), js_peer(ROOT, bytes([8]) * 32) as js:
            await js.do("dial", address=here.addresses[0])
            await at_here.until(lambda: js.peer_id in at_here.statuses)
            await trio.sleep(QUIET_SECONDS)  # the silence is what is tried
            await js.do("publish", topic="results", data=b"still there".hex())
            await at_here.until(lambda: b"still there" in at_here.held.values())
            return [*js.lost, *(peer for what, peer in at_here.events if what == "disconnect")]


@pytest.fixture(scope="module", autouse=True)
def quiet(installed: None) -> Iterator[Future[list[str]]]:
    """The silence, beside the other tests of this module."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(trio.run, stay_quiet)


@within(60)
async def test_either_side_dials() -> None:
    async with node() as (here, at_here), js_peer(ROOT, SEED) as js:
        assert await here.connect(js.addresses[0]) == js.peer_id
        await at_here.until(lambda: js.peer_id in at_here.statuses)
        assert at_here.statuses[js.peer_id].agent == "js-libp2p"
        async with node() as (there, at_there):
            assert (await js.do("dial", address=there.addresses[0]))["peer"] == there.peer_id
            await at_there.until(lambda: js.peer_id in at_there.statuses)


@within(60)
async def test_identify_and_ping() -> None:
    async with pair() as (here, _, js):
        identified = await js.do("identify", peer=here.peer_id)
        named = {topic_name(ROOT[:8], name) for name in ("status", "statements", "blob", "body", "image")}
        assert named | {"/meshsub/1.1.0", "/ipfs/ping/1.0.0"} <= set(identified["protocols"])
        assert (await js.do("ping", peer=here.peer_id))["seconds"] > 0


@within(60)
async def test_a_hundred_messages_each_way() -> None:
    async with pair() as (here, at_here, js), trio.open_nursery() as nursery:
        ours, theirs = ([b"%s %d" % (side, n) + bytes(500) for n in range(100)] for side in (b"py", b"js"))

        async def speak() -> None:
            for message in ours:
                await here.publish("results", message)

        nursery.start_soon(speak)
        for message in theirs:
            await js.do("publish", topic="results", data=message.hex())
        await at_here.until(lambda: set(theirs) <= set(at_here.held.values()))
        await js.until_heard(*ours)
        assert {one["topic"] for one in js.heard} == {"results"}


@within(60)
async def test_gossip_goes_on_through_a_node_to_another() -> None:
    async with pair() as (here, _, js), node(here.addresses[0]) as (there, at_there):
        await at_there.until(lambda: here.peer_id in at_there.statuses)
        await js.do("publish", topic="results", data=b"passed on".hex())
        await at_there.until(lambda: b"passed on" in at_there.held.values())
        await there.publish("results", b"passed back")
        await js.until_heard(b"passed back")


@within(60)
async def test_status_and_statements_are_asked_and_answered() -> None:
    async with pair() as (here, at_here, js):
        at_here.hold(b"one", b"two")
        told = await js.do("status", peer=here.peer_id)
        assert told == {"root": ROOT.hex(), "count": 2, "name": "", "agent": ""}
        ids = [hash_of(b"one").hex(), hash_of(b"unknown").hex()]
        assert (await js.do("statements", peer=here.peer_id, ids=ids))["envelopes"] == [b"one".hex()]

        await js.do("hold", envelope=GRANT.data.hex())
        theirs: Status = await here.status(js.peer_id)
        assert (theirs.count, theirs.digest, theirs.role) == (1, GRANT.id, "volunteer")
        assert await here.statements(js.peer_id, [claim().id, GRANT.id]) == [GRANT.data]


@within(60)
async def test_content_by_hash_both_ways() -> None:
    """More than one answer holds, an empty file, and what nobody has."""
    async with pair() as (here, at_here, js):
        big, empty = at_here.offer(BIG, b"")
        for hash_, length in ((big, len(BIG)), (empty, 0), (hash_of(b"unknown"), None)):
            assert (await js.do("fetch", peer=here.peer_id, kind="image", hash=hash_.hex()))["length"] == length

        other = BIG[1:252] * 39_999
        await js.do("offer", data=BIG[1:252].hex(), times=39_999)
        await js.do("offer", data="", times=1)
        wanted = [hash_of(data) for data in (other, b"", b"unknown", BIG)]
        got = {hash_: data async for hash_, data in here.fetch("image", wanted, [js.peer_id], holds, len(BIG))}
        assert got == {hash_of(data): data for data in (other, b"", BIG)}


@within(60)
async def test_wrong_bytes_from_a_node_are_noticed() -> None:
    async with pair() as (here, at_here, js):
        at_here.contents[hash_of(b"right")] = b"wrong"
        with pytest.raises(AssertionError, match="bytes of another hash"):
            await js.do("fetch", peer=here.peer_id, kind="image", hash=hash_of(b"right").hex())


async def live_and_be_killed(here: Swarm, at_here: Twin, life: bytes) -> None:
    async with js_peer(ROOT, SEED) as js:
        await js.do("dial", address=here.addresses[0])
        await at_here.until(lambda: js.peer_id in at_here.statuses)
        await js.do("publish", topic="results", data=life.hex())
        await at_here.until(lambda: life in at_here.held.values())
        await here.publish("results", b"to the " + life)
        await js.until_heard(b"to the " + life)
        js.kill()
    await at_here.until(lambda: js.peer_id not in at_here.statuses)


@within(90)
async def test_a_killed_peer_that_comes_back_is_heard_at_once() -> None:
    async with node() as (here, at_here):
        await live_and_be_killed(here, at_here, b"first life")
        await live_and_be_killed(here, at_here, b"second life")


@within(60)
async def test_a_peer_of_another_project_is_turned_away() -> None:
    async with node() as (here, at_here), js_peer(hash_of(b"another"), SEED) as js:
        await js.do("dial", address=here.addresses[0])
        await js.until(lambda: js.lost == [here.peer_id])
        assert at_here.statuses == {}


def test_a_connection_lasts_through_silence(quiet: Future[list[str]]) -> None:
    assert quiet.result(QUIET_SECONDS + 60) == []
