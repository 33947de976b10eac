"""A stage that uses another's answers, on a node that keeps only a share of the captions. Real nodes."""

import time
from pathlib import Path

import trio

from p2pcap.envelope import seal
from p2pcap.ledger.grants import own_grant
from p2pcap.ledger.records import Answer, Row
from p2pcap.node.member import Member
from p2pcap.node.node import Node
from p2pcap.project.ticket import Ticket
from p2pcap.store.writes import DropBodies
from p2pcap_bootstrap.workspace import Workspace
from tests.e2e.living import coordinator_of, living, observer, runtime
from tests.makers import ADA, make_result
from tests.swarm.twin import within
from tests.unit.coordinator import change, new_project, sign_again

__all__ = ["runtime"]

STAGES = [
    {"name": "look", "prompts": [{"name": "caption", "text": "What is it?"}, {"name": "mood", "text": "Is it sad?"}]},
    {"name": "short", "prompts": [{"name": "short", "text": "Shorten: {look.caption}"}]},
]


def two_stages(folder: Path) -> Workspace:
    workspace = new_project(folder, images=70)
    change(workspace, stages=STAGES)
    sign_again(workspace)
    return workspace


def member_of(node: Node) -> Member:
    assert node.member is not None
    return node.member


async def answer(node: Node, ticket: str, first: int, last: int) -> bytes:
    """Ada's answers in the first stage, published by `node`; the id of the result. She failed at the last image."""
    member = member_of(node)
    project, items = member.ledger.project, await member.fetching.items(0)
    if not member.ledger.members.is_admitted(ADA.public):
        grant = own_grant(ADA, Ticket.parse(ticket), project, "ada", int(time.time()))
        assert grant is not None
        await member.submit(grant.data)
    texts = [(f"picture {index}", "yes") for index in range(first, last - 1)]
    rows = [
        Row(index, items[index].hash, tuple(Answer(text, 2, "stop") for text in said))
        for index, said in enumerate(texts, first)
    ]
    rows.append(Row(last - 1, items[last - 1].hash, (), "undecodable", "no image"))
    result, body = make_result(project, 0, rows, time=int(time.time()))
    envelope = seal(ADA, "result", result)
    await member._station(member.ledger.work_of(project.stages[0])).publish_result(envelope, result, rows, body, None)
    return envelope.id


async def has_body(member: Member, id_: bytes) -> None:
    while member.ledger.held(id_) is None:
        await member.change.wait()


@within(120)
async def test_answers_that_are_not_kept_here_come_from_a_peer(tmp_path: Path) -> None:
    in_thread = trio.to_thread.run_sync
    workspace = await in_thread(two_stages, tmp_path)
    wanted = range(2, 8)
    async with living(await in_thread(coordinator_of, workspace)) as coordinator:
        ticket = coordinator.ticket()
        async with living(observer(tmp_path / "sharer", ticket)) as node:
            member = member_of(node)
            kept, gone = [await answer(coordinator, ticket, *span) for span in ((0, 4), (4, 7))]
            for id_ in (kept, gone):
                await has_body(member, id_)
            await node.store.commit(DropBodies([gone]))
            look, short = (member.ledger.work_of(stage) for stage in member.ledger.project.stages)
            assert set(await node.store.answers(look.tid, 0)) == {0, 1, 2}
            station = member._station(short)
            assert await station.given(0, wanted) == {
                index: {"look.caption": f"picture {index}"} for index in (2, 4, 5)
            }, "of images without an answer nothing is said"
            assert set(await node.store.answers(look.tid, 0)) == {0, 1, 2}, "what came is not kept"
            coordinator.stop()
            await coordinator.ended.wait()
            assert set(await station.given(0, wanted)) == {2}, "nobody has the others now"
