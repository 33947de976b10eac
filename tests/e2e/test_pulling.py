"""A maintainer's folder that is behind gets what the swarm has: real nodes, real folders."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from p2pcap.errors import UntrustedError
from p2pcap.node import pulling
from p2pcap.node.pulling import Folder, _pull
from p2pcap.node.run import first_error
from p2pcap.project.opened import Project, check_follows
from p2pcap.project.ticket import Ticket
from p2pcap_bootstrap import publication
from p2pcap_bootstrap.pulling import Pulled, notes, pull, unlike_file
from p2pcap_bootstrap.workspace import Workspace
from tests.e2e.living import coordinator_of, living, runtime
from tests.e2e.test_publishing import comes_to, published, version_of
from tests.makers import chunks_of
from tests.swarm.twin import within
from tests.unit.coordinator import change, sign_again, signed_project, tree, write_images

__all__ = ["runtime"]


def backup_of(workspace: Workspace, name: str) -> Workspace:
    """A copy of the folder as a backup brings it back on another machine."""
    copy = workspace.directory.with_name(name)
    shutil.copytree(workspace.directory, copy, ignore=shutil.ignore_patterns("node", "draft"))
    return Workspace(copy)


def quietly(ticket: Ticket, peers: Sequence[str], folder: Folder, log_file: Path) -> tuple[Project, bool]:
    """As `p2pcap.node.pulling.pull` does, without a log."""
    try:
        return trio.run(_pull, ticket, peers, folder, 30.0)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def pulled(workspace: Workspace, peers: Sequence[str]) -> Pulled:
    return await trio.to_thread.run_sync(pull, workspace, peers, quietly)


@within(180)
async def test_an_old_backup_goes_on_from_what_the_swarm_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "OTHERS_WITHIN", 1.0)  # there are no others
    in_thread = trio.to_thread.run_sync
    workspace = await in_thread(signed_project, tmp_path, 70)
    async with living(await in_thread(coordinator_of, workspace)) as node:
        assert node.swarm is not None
        peers = node.swarm.addresses
        old, ahead = backup_of(workspace, "old"), backup_of(workspace, "ahead")
        write_images(tmp_path / "images", 100)
        for text in ("Which one?", "And now?"):
            change(workspace, prompts=[{"name": "caption", "text": text}])
            await in_thread(sign_again, workspace)
        await in_thread(publication.to_coordinator, workspace)
        await comes_to(node, 3)
        # What a copy that is behind signs leads nowhere, whatever its number is.
        shutil.rmtree(tmp_path / "images")
        write_images(tmp_path / "images", 170)
        for text in ("One", "Two", "Three"):
            change(ahead, prompts=[{"name": "caption", "text": text}])
            await in_thread(sign_again, ahead)
        assert ahead.project().manifest.version == 4
        with pytest.raises(UntrustedError, match="renumbers"):
            check_follows(ahead.project(), workspace.project())
        for copy in (old, ahead):
            before = tree(copy.directory / "keys")
            found = await pulled(copy, peers)
            assert (found.brought, found.project) == (True, workspace.project())
            assert copy.project() == workspace.project()
            assert all(copy.blob(chunk.items) for chunk in chunks_of(copy.project()))
            assert tree(copy.directory / "keys") == before
            assert not list(notes(copy, found))
        assert any("And now?" in line for line in unlike_file(old, old.project()))
        again = await pulled(old, peers)
        assert (again.brought, again.project.manifest.version) == (False, 3)
        await in_thread(sign_again, old)
        assert old.project().images == 170
        assert await in_thread(published, old, peers) == 1
        assert version_of(node) == 4
        await in_thread(sign_again, ahead)
