"""`python -m benchmarks.raw_stream TOTAL serve` and `… TOTAL fetch ADDRESS`: bytes over a bare stream of libp2p.

Noise and Yamux over TCP as py-libp2p brings them and nothing of ours, with the settings it is fastest with: window
updates in batches, and writes that are one Yamux frame in one Noise message. Each fetch gets TOTAL bytes on a new
stream of one connection and says the seconds it took.
"""

import functools
import os
import sys
import time
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

NAME: Any = "/bench/raw"
WRITE = 65_507
READ = 262_144
LISTEN = Multiaddr("/ip4/127.0.0.1/tcp/0")


def host() -> Any:
    """A host as the library makes it."""
    keys = create_new_key_pair()
    noise = Noise(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    return new_host(key_pair=keys, listen_addrs=[LISTEN], sec_opt={NOISE: noise}, muxer_opt={YAMUX: Yamux})


async def give(total: int, stream: Any) -> None:
    """Write so many bytes."""
    data = os.urandom(WRITE)
    for start in range(0, total, WRITE):
        await stream.write(data[: min(WRITE, total - start)])
    await stream.close()


async def take(total: int, here: Any, address: str) -> float:
    """Seconds to read them."""
    began, got = time.perf_counter(), 0
    stream = await here.new_stream(info_from_p2p_addr(Multiaddr(address)).peer_id, [NAME])
    try:
        while piece := await stream.read(READ):
            got += len(piece)
    except StreamEOF:
        pass
    await stream.close()
    assert got == total, got
    return time.perf_counter() - began


async def main(*arguments: str) -> None:
    """Print the address, or the seconds of a fetch for each line read; until standard input ends."""
    size, what, *address = arguments
    total, here = int(size), host()
    async with here.run(listen_addrs=[LISTEN]):
        if what == "serve":
            here.set_stream_handler(NAME, functools.partial(give, total))
            print(here.get_addrs()[0], flush=True)
        else:
            await here.connect(info_from_p2p_addr(Multiaddr(address[0])))
        async for _ in trio.wrap_file(sys.stdin):
            print(await take(total, here, address[0]), flush=True)
        await here.close()


if __name__ == "__main__":
    os.environ["PY_YAMUX_RELEASE_ON_READ"] = "0"  # window updates in batches; read at each use
    trio.run(main, *sys.argv[1:])
