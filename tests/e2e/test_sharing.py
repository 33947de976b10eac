"""Real nodes over loopback that keep a share of the captions each: databases, libp2p and all, without engines."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pcap.codec import encode
from p2pcap.envelope import seal
from p2pcap.errors import StoreError
from p2pcap.node import keeping, proofs
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions, Role, Seed
from p2pcap.node.shares import SURE, StoreRole
from p2pcap.paths import NodePaths
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutItems, PutStatement, Write
from tests.makers import ADA, chunks_of, make_grant, make_project, make_result, make_ticket

MADE = make_project((128,) * 15)
IMAGES = sum(map(len, MADE.items))
PATIENCE = 120.0
SHARING = 6


def captions() -> list[Write]:
    """A slice's result for every 64 images."""
    now = int(time.time())
    writes: list[Write] = [PutStatement(make_grant(MADE.project, ADA, "Ada", now), now)]
    for chunk in range(len(MADE.items)):
        for first in (0, 64):
            rows = [MADE.row(chunk, item) for item in range(first, first + 64)]
            result, body = make_result(MADE.project, chunk, rows, now)
            writes.append(PutBatch(seal(ADA, "result", result), result, tuple(rows), body.data, now))
    return writes


async def write_ledger(directory: Path) -> None:
    store = Store.open(NodePaths(directory).database)
    await store.commit(*(PutItems(number, items) for number, items in enumerate(MADE.items)), *captions())
    await store.close()


class Swarm:
    """Nodes in one process, each with a folder of its own."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self._folder = folder
        self._nursery = nursery
        lists = {chunk.items: encode(items) for chunk, items in zip(chunks_of(MADE.project), MADE.items, strict=True)}
        self._seed = Seed(MADE.project, lists, {})
        self._addresses: tuple[str, ...] = ()

    async def start(self, name: str, store: StoreRole = "full", cap: int = 2**40, role: Role = "observer") -> Node:
        ticket = make_ticket(MADE.project, self._addresses[:8])
        options = NodeOptions(
            directory=self._folder / name,
            role=role,
            ticket=ticket,
            listen=("/ip4/127.0.0.1/tcp/0",),
            name=name,
            store=store,
            store_cap=cap,
            seed=self._seed if role == "coordinator" else None,
        )
        node = Node(options, lambda line: None)
        await self._nursery.start(node.run)
        assert node.swarm is not None
        self._addresses = (*self._addresses, *node.swarm.addresses)
        return node

    async def stop(self, node: Node) -> None:
        node.stop()
        await node.ended.wait()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what may change in many nodes has no common event
            await trio.sleep(0.1)


def rows(node: Node) -> int:
    return node.member.ledger.items_done if node.member is not None else 0


def held(node: Node) -> set[bytes]:
    with node.store.readers.lend() as cursor:
        query = "SELECT s.id FROM batch b JOIN statement s USING (no) WHERE octet_length(b.body) > 0"
        return {id_ for (id_,) in cursor.execute(query).fetchall()}


def copies(nodes: list[Node]) -> Counter[bytes]:
    return Counter(id_ for node in nodes for id_ in held(node))


async def run(folder: Path) -> None:
    await write_ledger(folder / "coordinator")
    async with trio.open_nursery() as nursery:
        swarm = Swarm(folder, nursery)
        coordinator = await swarm.start("coordinator", role="coordinator")
        nodes = [await swarm.start(f"node {number}", "share", cap=1) for number in range(SHARING)]
        everything = held(coordinator)
        await until(lambda: all(rows(node) == IMAGES for node in nodes))
        await until(lambda: all(len(held(node)) < 0.7 * len(everything) for node in nodes))
        assert all(rows(node) == IMAGES for node in nodes)
        assert copies([coordinator, *nodes]).keys() == everything
        assert min(copies([coordinator, *nodes]).values()) >= SURE
        with pytest.raises(StoreError, match="--store full"):
            await nodes[0].store.table_hash()
        await swarm.stop(nodes[0])
        nodes[0] = await swarm.start("node 0", "share", cap=1)
        await until(lambda: rows(nodes[0]) == IMAGES)
        assert len(held(nodes[0])) < 0.7 * len(everything)
        late = await swarm.start("late")
        await until(lambda: held(late) == everything)
        assert await late.store.table_hash() == await coordinator.store.table_hash()
        for node in (coordinator, late, *nodes):
            await swarm.stop(node)


async def run_with_liars(folder: Path) -> None:
    asked: Counter[str] = Counter()

    def fall_silent(liar: Node, name: str) -> None:
        async def nothing(root: bytes) -> bytes | None:
            asked[name] += 1
            await trio.lowlevel.checkpoint()
            return None

        liar.store.body = nothing  # type: ignore[method-assign]

    await write_ledger(folder / "coordinator")
    async with trio.open_nursery() as nursery:
        swarm = Swarm(folder, nursery)
        coordinator = await swarm.start("coordinator", role="coordinator")
        liars = [await swarm.start(f"liar {number}") for number in range(4)]
        for number, liar in enumerate(liars):
            fall_silent(liar, f"liar {number}")
        everything = held(coordinator)
        await until(lambda: all(held(liar) == everything for liar in liars))  # so each calls itself full
        asked.clear()
        nodes = [await swarm.start(f"node {number}", "share", cap=1) for number in range(4)]
        await until(lambda: all(rows(node) == IMAGES for node in nodes))
        before = Counter(asked)
        await until(lambda: all(asked[name] > before[name] for name in (f"liar {number}" for number in range(4))))
        await until(lambda: sum(len(held(node)) for node in nodes) < len(nodes) * len(everything))
        for _ in range(20):
            assert min(copies([coordinator, *nodes]).values()) >= SURE
            await trio.sleep(0.2)
        for node in (coordinator, *liars, *nodes):
            await swarm.stop(node)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_EVERY", 0.2), ("REVIEW_EVERY", 0.5), ("SETTLE", 0), ("PAUSE", 0.1)):
        monkeypatch.setattr(keeping, name, value)
    monkeypatch.setattr(proofs, "REST", 1.0)


def test_nodes_share_the_captions_out_and_each_counts_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))
    trio.run(partial(run, tmp_path))


def test_nodes_that_say_they_keep_everything_and_hand_over_nothing_make_nobody_drop_a_last_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))
    trio.run(partial(run_with_liars, tmp_path))
