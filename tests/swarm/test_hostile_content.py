"""Attacks by those who are asked for content, while an honest peer uses the node."""

import os
from contextlib import aclosing
from typing import Any

import trio

from p2pcap.swarm.frames import LENGTH
from tests.swarm.hostile import scene
from tests.swarm.test_fetch import CAP, serve_as, wanted_by
from tests.swarm.twin import hash_of, holds, node, pack_answer, stranger, within


@within(90)
async def test_wrong_bytes_and_stalls_do_not_keep_the_right_ones_away() -> None:
    blobs = [os.urandom(200_000) for _ in range(12)]

    async def lie(stream: Any) -> None:
        wanted = await wanted_by(stream)
        await stream.write(pack_answer([bytes(200_000)] * len(wanted), [at for _, at in wanted]))
        await stream.close()

    async def stall(stream: Any) -> None:
        wanted = await wanted_by(stream)
        await stream.write(pack_answer([blobs[0]] * len(wanted), [at for _, at in wanted])[:70_000])
        await trio.sleep_forever()

    async def babble(stream: Any) -> None:
        await wanted_by(stream)
        await stream.write(LENGTH.pack(2**31))

    async with scene() as it, stranger(it.node) as liar, stranger(it.node) as staller, stranger(it.node) as babbler:
        for peer, answer in ((liar, lie), (staller, stall), (babbler, babble)):
            serve_as(peer, answer)
        it.at_honest.offer(*blobs)
        hashes = [hash_of(blob) for blob in blobs]
        async with aclosing(it.node.fetch("image", hashes, None, holds, CAP)) as arriving:
            assert {hash: data async for hash, data in arriving} == dict(zip(hashes, blobs, strict=True))
        assert it.score(liar.peer_id) < 0
        assert it.score(babbler.peer_id) < 0


@within(60)
async def test_an_item_without_end_is_cut_off() -> None:
    async with node() as (a, _), stranger(a) as endless:

        async def go_on(stream: Any) -> None:
            await wanted_by(stream)
            while True:
                await stream.write(LENGTH.pack(60_000) + bytes(60_000))

        serve_as(endless, go_on)
        async with aclosing(a.fetch("image", [bytes(32)], None, holds, CAP)) as arriving:
            assert not [item async for item in arriving]
        assert a.peers()[0].score < 0
