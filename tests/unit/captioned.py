"""A maintainer's folder whose node holds captions by two volunteers: as after a first night, without any engine."""

import time
from pathlib import Path

import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.grants import grant_by
from p2pcap.ledger.records import Answer, Row
from p2pcap.paths import NodePaths
from p2pcap.project.opened import open_list
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutItems, PutProject, PutStatement, Write
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import ADA, BOB, chunks_of, make_result
from tests.unit.coordinator import signed_project

IMAGES = 100


def captioned_project(base: Path) -> Workspace:
    """Two chunks, of 64 and 36 images: Ada captioned the first 40 images, Bob all others."""
    workspace = signed_project(base, images=IMAGES, chunk=64)
    trio.run(_fill, workspace)
    return workspace


async def _fill(workspace: Workspace) -> None:
    now = int(time.time()) - 600
    project, lists = workspace.project(), workspace.lists(workspace.project())
    found = [open_list(lists[chunk.items], chunk) for chunk in chunks_of(project)]
    writes: list[Write] = [PutProject(project, now), *(PutItems.of(n, one) for n, one in enumerate(found))]
    for author, name in ((ADA, "Ada"), (BOB, "Bob")):
        writes.append(PutStatement(_grant(workspace, author, name, now), now))
    for author, chunk, items in ((ADA, 0, range(40)), (BOB, 0, range(40, 64)), (BOB, 1, range(36))):
        rows = [_row(index, found[chunk].items[index].hash) for index in items]
        result, body = make_result(project, chunk, rows, time=now)
        writes.append(PutBatch(seal(author, "result", result), result, tuple(rows), body.data, now))
    store = Store.open(NodePaths(workspace.node).database)
    await store.commit(*writes)
    await store.close()


def _grant(workspace: Workspace, author: Identity, name: str, now: int) -> Envelope:
    return grant_by(workspace.coordinator(), workspace.project().m, author.public, name, now)


def _row(index: int, image: bytes) -> Row:
    return Row(index, image, (Answer(f"caption {index}", 3, "stop"),))
