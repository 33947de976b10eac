"""A node in a process of its own, driven by lines: `python -m tests.swarm.child PORT SEED [KNOWN ...]`.

Prints "at ADDRESS" first, then "heard TEXT" for each result. Publishes each line it reads; "quit" ends it.
"""

import sys

import structlog
import trio

from p2pcap.identity import Identity
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.swarm import Swarm
from tests.swarm.twin import Twin, node


class Speaking(Twin):
    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        print("heard", data.decode(), flush=True)
        return super().judge(topic, sender, data)

    def on_disconnect(self, peer: str) -> None:
        print("lost", peer, flush=True)
        super().on_disconnect(peer)


async def obey(swarm: Swarm) -> None:
    async for line in trio.wrap_file(sys.stdin):
        if line.strip() == "quit":
            return
        await swarm.publish("results", line.strip().encode())


async def main(*arguments: str) -> None:
    port, seed, *known = arguments
    listen = [f"/ip4/127.0.0.1/tcp/{port}"]
    identity = Identity.from_seed(bytes.fromhex(seed))
    async with node(*known, twin=Speaking(), identity=identity, listen=listen) as (swarm, _):
        print("at", swarm.addresses[0], flush=True)
        await obey(swarm)


structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
trio.run(main, *sys.argv[1:])
