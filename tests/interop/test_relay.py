"""js-libp2p and our relays: it takes a place at one and is called through it, and it calls one of us through it."""

import pytest

from p2pcap.swarm.addresses import CIRCUIT
from tests.interop.js import js_peer
from tests.swarm.twin import ROOT, hash_of, holds, node, within

pytestmark = pytest.mark.usefixtures("installed")

SEED = bytes([11]) * 32
CONTENT = bytes(range(256)) * 2_000


@within(60)
async def test_js_is_called_through_a_relay() -> None:
    async with node(relay="yes") as (relay, at_relay), js_peer(ROOT, SEED) as js, node() as (here, at_here):
        await js.do("dial", address=relay.addresses[0])
        await at_relay.until(lambda: js.peer_id in at_relay.statuses)  # places are for members only
        await js.do("listen", address=f"{relay.addresses[0]}/p2p-circuit")
        circuit = f"{relay.addresses[0]}/p2p-circuit/p2p/{js.peer_id}"
        assert circuit in (await js.do("addresses"))["addresses"]

        assert await here.connect(circuit) == js.peer_id
        await at_here.until(lambda: js.peer_id in at_here.statuses)
        assert at_here.statuses[js.peer_id].agent == "js-libp2p"

        offered = bytes.fromhex((await js.do("offer", data=CONTENT.hex(), times=1))["hash"])
        got = {hash_: data async for hash_, data in here.fetch("image", [offered], [js.peer_id], holds, len(CONTENT))}
        assert got == {hash_of(CONTENT): CONTENT}
        (mine,) = at_here.offer(CONTENT[1:])
        assert (await js.do("fetch", peer=here.peer_id, kind="image", hash=mine.hex()))["length"] == len(CONTENT) - 1


@within(60)
async def test_js_calls_through_a_relay() -> None:
    async with node(relay="yes") as (relay, at_relay), js_peer(ROOT, SEED) as js:
        await js.do("dial", address=relay.addresses[0])
        await at_relay.until(lambda: js.peer_id in at_relay.statuses)
        async with node(relay.addresses[0], traverse=True) as (here, at_here):
            await at_here.met(relay)
            while not (circuits := [a for a in (await relay.status(here.peer_id)).addresses if CIRCUIT in a]):
                pass  # it is still asking for its place
            await js.do("dial", address=circuits[0])
            await at_here.until(lambda: js.peer_id in at_here.statuses)
            assert (await js.do("status", peer=here.peer_id))["root"] == ROOT.hex()
            await js.do("publish", topic="results", data=b"through a relay".hex())
            await at_here.until(lambda: b"through a relay" in at_here.held.values())
