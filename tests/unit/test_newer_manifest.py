"""On disk: what came before the manifest that it belongs to is taken in with it, and a restart changes nothing."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.body import error_bits
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.rulings import Redact
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.intake import Intake
from p2pcap.node.restart import rebuild, stored_project
from p2pcap.project.opened import Project
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutProject
from tests.makers import ADA, BOB, COORDINATOR, EVE, NOW, make_grant, make_result
from tests.unit.store_project import database
from tests.unit.test_adopting import FIRST, FOURTH, SECOND, SHORT, THIRD, M, answers, errors, sums


class Node:
    """A node in which statements come in and are committed; bodies are given to it."""

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self.store = store
        self.ledger = Ledger(FIRST)
        self.wanted: list[bytes] = []
        self.intake = Intake(ADA, self.ledger, store, Change(), self._want, lambda: float(NOW))
        nursery.start_soon(self.intake.run)

    def _want(self, envelope: Envelope, result: Result) -> None:
        self.wanted.append(envelope.id)

    async def adopt(self, project: Project) -> None:
        """As p2pcap.node.following does, and whoever waits for it."""
        await self.store.commit(PutProject(project, NOW))
        self.ledger.adopt(project)
        await self.intake.manifest_changed()

    async def publish(self, project: Project, stage: int, author: Identity, chunk: int, rows: Sequence[Row]) -> bytes:
        """A result with its body, of a task that is known."""
        result, body = make_result(project, chunk, rows, stage=stage)
        envelope = seal(author, "result", result)
        await self.store.commit(PutBatch(envelope, result, rows, body.data, NOW))
        self.ledger.add(envelope, result)
        self.ledger.complete(envelope.id, author.public, result, error_bits(rows))
        return envelope.id


def on_disk(directory: Path, use: Callable[[Node], Awaitable[None]]) -> None:
    async def run() -> None:
        store = Store.open(database(directory))
        try:
            await store.commit(PutProject(FIRST, NOW))
            async with trio.open_nursery() as nursery:
                node = Node(store, nursery)
                await node.intake.receive([make_grant(FIRST, author).data for author in (ADA, BOB, EVE)])
                await use(node)
                nursery.cancel_scope.cancel()
        finally:
            await store.close()

    trio.run(run)


def test_what_came_before_its_manifest_is_durable_once_that_is(tmp_path: Path) -> None:
    looked, shortened = (
        seal(BOB, "result", make_result(SECOND, chunk, answers(chunk, 0, 64), stage=stage)[0])
        for stage, chunk in ((0, 2), (1, 0))
    )
    redaction = seal(COORDINATOR, "redact", Redact(M, 2, 0, 64, b"\1" + bytes(7), "private", NOW))

    async def use(node: Node) -> None:
        assert node.intake.judge(looked.data).verdict is Verdict.IGNORE
        assert (await node.intake.receive([shortened.data, redaction.data])).new == 0
        await node.intake.manifest_changed()
        assert (node.wanted, node.intake.waiting) == ([], 0)
        await node.adopt(SECOND)
        assert sorted(node.wanted) == sorted([looked.id, shortened.id])
        kept = await node.store.statements([looked.id, shortened.id, redaction.id])
        assert {*kept} == {looked.data, shortened.data, redaction.data}
        assert {looked.id, shortened.id, redaction.id} <= {id_ for _, id_ in node.ledger.index}
        assert node.ledger.works[SHORT.tid].rows.redacted(2) == 1

    on_disk(tmp_path, use)


def test_a_node_that_starts_again_is_where_one_is_that_followed(tmp_path: Path) -> None:
    async def use(node: Node) -> None:
        await node.publish(FIRST, 0, ADA, 0, answers(0, 0, 40))
        await node.publish(FIRST, 0, BOB, 0, errors(0, 30, 50))
        await node.adopt(SECOND)
        await node.publish(SECOND, 1, EVE, 0, answers(0, 0, 10))
        await node.publish(SECOND, 0, EVE, 2, answers(2, 0, 64))
        await node.adopt(THIRD)
        await node.publish(THIRD, 0, EVE, 0, [*answers(0, 45, 50), *errors(0, 50, 64)])
        await check(node, THIRD)
        await node.adopt(FOURTH)
        await check(node, FOURTH)

    async def check(node: Node, newest: Project) -> None:
        loaded = await node.store.load()
        project = stored_project(loaded, FIRST.hash)
        assert project == newest
        assert sums(rebuild(loaded, project)) == sums(node.ledger)

    on_disk(tmp_path, use)
