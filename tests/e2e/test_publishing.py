"""A newer manifest goes out: through the coordinator that runs, past it to a peer, and as a file. Real nodes."""

from pathlib import Path

import trio

from p2pcap.cli.bundle_option import project_seed
from p2pcap.node.node import Node
from p2pcap.node.publishing import look
from p2pcap.paths import NodePaths
from p2pcap_bootstrap import publication
from p2pcap_bootstrap.pausing import set_paused
from p2pcap_bootstrap.serving import make_ticket
from p2pcap_bootstrap.signing import sign
from p2pcap_bootstrap.workspace import Workspace
from tests.e2e.living import coordinator_of, living, observer, runtime
from tests.swarm.twin import within
from tests.unit.coordinator import change, file_of, signed_project, write_images

__all__ = ["runtime"]

OTHER = [{"name": "caption", "text": "What is that?"}]


def sign_changed(workspace: Workspace) -> None:
    sign(workspace, file_of(workspace), lambda number: None)


def version_of(node: Node) -> int:
    assert node.member is not None
    return node.member.ledger.project.manifest.version


async def comes_to(node: Node, version: int) -> None:
    """The node follows that manifest."""
    while version_of(node) < version:  # noqa: ASYNC110 - a node tells nobody outside of it
        await trio.sleep(0.05)


@within(120)
async def test_a_newer_manifest_reaches_everybody(tmp_path: Path) -> None:
    in_thread = trio.to_thread.run_sync
    workspace = await in_thread(signed_project, tmp_path, 70)
    async with living(await in_thread(coordinator_of, workspace)) as coordinator:
        async with living(observer(tmp_path / "observer", coordinator.ticket())) as node:
            change(workspace, prompts=OTHER)
            write_images(tmp_path / "images", 100)
            await in_thread(sign_changed, workspace)
            assert await in_thread(publication.to_coordinator, workspace) == 2
            await comes_to(node, 2)
            assert node.member is not None
            assert node.member.ledger.project == workspace.project()
            coordinator.stop()
            await coordinator.ended.wait()
            await in_thread(set_paused, workspace, None, True)
            assert node.swarm is not None
            assert await in_thread(publication.to_peers, workspace, node.swarm.addresses) == 1
            assert version_of(node) == 3
            assert node.member.ledger.project.plan.paused is True
            ticket = make_ticket(workspace, workspace.project(), tuple(node.swarm.addresses))
            (tmp_path / "look").mkdir()
            assert await in_thread(look, ticket, (), tmp_path / "look", 60.0) == workspace.project()


@within(120)
async def test_a_file_is_enough_to_begin_with(tmp_path: Path) -> None:
    in_thread = trio.to_thread.run_sync
    workspace = await in_thread(signed_project, tmp_path, 70)
    await in_thread(publication.to_file, workspace, tmp_path / "cats.p2pcap")
    ticket, paths = make_ticket(workspace, workspace.project()), NodePaths(tmp_path / "observer")
    seed = project_seed(str(tmp_path / "cats.p2pcap"), paths, ticket)
    async with living(observer(paths.directory, str(ticket), seed=seed)) as node:
        assert node.member is not None
        assert node.member.ledger.project == workspace.project()
        listing = await node.member.fetching.listing(1)
        assert [item.key for item in listing.items] == [f"{number:05}.png" for number in range(64, 70)]
