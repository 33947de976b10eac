"""A newer manifest goes out: through the coordinator that runs, past it to a peer, and as a file. Real nodes."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from p2pcap.cli.bundle_option import project_seed
from p2pcap.errors import SwarmError
from p2pcap.node.node import Node
from p2pcap.node.publishing import Publisher, _publish, look
from p2pcap.node.run import first_error
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


async def is_told_what_is_not_newer(workspace: Workspace, node: Node) -> None:
    """Whoever goes on from an old copy of the folder is not told that all is well."""
    old, now = workspace.directory.with_name("old"), workspace.project()
    shutil.copytree(workspace.directory, old, ignore=shutil.ignore_patterns("node"))
    copy = Workspace(old)
    await trio.to_thread.run_sync(set_paused, workspace, None, False)
    assert node.swarm is not None
    addresses = node.swarm.addresses
    assert await trio.to_thread.run_sync(published, workspace, addresses) == 1
    found = now.manifest.version + 1
    with pytest.raises(SwarmError, match=f"swarm has manifest {found} .* is an older one.*project pull"):
        await trio.to_thread.run_sync(published, copy, addresses)
    await trio.to_thread.run_sync(set_paused, copy, "main", True)
    with pytest.raises(SwarmError, match=f"manifest {found} under .* is another .* overtakes both.*project pull"):
        await trio.to_thread.run_sync(published, copy, addresses)
    assert node.member is not None
    while not node.member.ledger.forks:  # noqa: ASYNC110 - a node tells nobody outside of it
        await trio.sleep(0.05)
    await trio.to_thread.run_sync(set_paused, copy, "main", False)
    assert await trio.to_thread.run_sync(published, copy, addresses) == 1
    assert version_of(node) == found + 1
    await trio.to_thread.run_sync(shutil.rmtree, workspace.directory / "signed")
    await trio.to_thread.run_sync(shutil.copytree, old / "signed", workspace.directory / "signed")


def published(workspace: Workspace, peers: Sequence[str]) -> int:
    """As `project publish --to` does, with less patience and no log."""
    project = workspace.project()
    ticket = make_ticket(workspace, project)
    publisher = Publisher(ticket, project, workspace.lists(project))
    try:
        return trio.run(_publish, ticket, publisher, project, peers, 5.0)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


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
            await is_told_what_is_not_newer(workspace, node)
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
