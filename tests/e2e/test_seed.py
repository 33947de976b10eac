"""A seeder of real processes: the project's images are to be had from it alone, once the coordinator is gone."""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import trio

from demo.processes import Processes, Running
from p2pcap.node.fetching import hash_holds
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions
from p2pcap.project.items import MAX_IMAGE
from p2pcap.project.ticket import Ticket
from p2pcap.swarm.service import Kind
from p2pcap_bootstrap.serving import make_ticket
from p2pcap_bootstrap.workspace import Workspace
from tests.e2e.swarm_of_processes import LOOPBACK, PATIENCE, SwarmOfProcesses, draw, kill, wait_for
from tests.unit.coordinator import change, new_project, sign_again, signed_project

COUNT = 150


def seeder(swarm: SwarmOfProcesses, name: str, folder: Path, ticket: str) -> Running:
    directory = swarm.folder / name
    command = ("seed", ticket, str(folder), "--name", name, "--node", str(directory), *LOOPBACK)
    return swarm.processes.start(name, directory, *command)


def hashes_of(folder: Path) -> dict[str, bytes]:
    """The images below a folder, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest() for path in files}


async def fetched(directory: Path, ticket: str, wanted: Sequence[bytes], kind: Kind = "image") -> set[bytes]:
    """Which of the images, or blobs, a node that joins now gets from its peers; the node checks their hashes."""
    options = NodeOptions(directory, "observer", Ticket.parse(ticket), listen=("/ip4/127.0.0.1/tcp/0",))
    node = Node(options, lambda line: None)
    came: set[bytes] = set()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        assert node.swarm is not None
        with trio.fail_after(120):
            while node.member is None:  # noqa: ASYNC110 - a node tells nobody when it has its project
                await trio.sleep(0.05)
            for start in range(0, len(wanted), 64):
                part = wanted[start : start + 64]
                async with aclosing(node.swarm.fetch(kind, part, None, hash_holds, MAX_IMAGE)) as arriving:
                    came |= {hash_ async for hash_, _ in arriving}
        node.stop()
    return came


def test_images_outlive_the_coordinator_with_a_seeder(tmp_path: Path, processes: Processes) -> None:
    images = draw(tmp_path / "pictures", COUNT, seed=21)
    swarm = SwarmOfProcesses(processes, tmp_path, images, wait_for_engines=1)
    wait_for(swarm.coordinator, lambda seen: seen.fetch.images == COUNT)
    seeding = seeder(swarm, "seeder", images, swarm.ticket)
    seen = wait_for(seeding, lambda seen: seen.fetch.images == COUNT, [swarm.coordinator])
    assert (seen.node.role, seen.engine.phase) == ("seeder", "off")
    wait_for(seeding, lambda _: f"{COUNT} of the project's {COUNT} images are in {images}" in seeding.log.read_text())
    kill(swarm.coordinator.process.pid)
    swarm.coordinator.process.wait()
    ticket = processes.run("ticket", "--node", str(seeding.directory)).strip()
    wanted = hashes_of(images)
    assert len(wanted) == COUNT
    assert trio.run(fetched, tmp_path / "late", ticket, list(wanted.values())) == set(wanted.values())
    processes.stop(seeding)
    assert seeding.process.returncode == 0
    assert "Traceback" not in seeding.log.read_text()


def test_a_seeder_hands_out_what_it_has_and_says_how_much(tmp_path: Path, processes: Processes) -> None:
    """Of its copy of the folder one image is gone, and one has other bytes, as many as it had."""
    images = draw(tmp_path / "pictures", 70, seed=22)
    swarm = SwarmOfProcesses(processes, tmp_path, images, wait_for_engines=1)
    wanted = hashes_of(images)
    gone, changed, *well = wanted
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    (copy / gone).unlink()
    (copy / changed).write_bytes(bytes((copy / changed).stat().st_size))
    seeding = seeder(swarm, "seeder", copy, swarm.ticket)
    wait_for(seeding, lambda _: "69 of the project's 70 images" in seeding.log.read_text(), [swarm.coordinator])
    processes.stop(swarm.coordinator)
    ticket = processes.run("ticket", "--node", str(seeding.directory)).strip()
    came = trio.run(fetched, tmp_path / "late", ticket, list(wanted.values()))
    assert came == {wanted[name] for name in well}
    wait_for(seeding, lambda seen: seen.fetch.images == 68)
    processes.stop(seeding)
    again = seeder(swarm, "seeder", copy, ticket)
    wait_for(again, lambda _: "69 of the project's 70 images" in again.log.read_text())


def serving(processes: Processes, workspace: Workspace) -> tuple[Running, str]:
    """The coordinator of that project, and its ticket."""
    node = workspace.directory / "node"
    command = ("bootstrap", "serve", str(workspace.directory), *LOOPBACK)
    coordinator = processes.start("coordinator", node, *command, output=subprocess.PIPE)
    return coordinator, processes.first_line(coordinator)


def test_a_seeder_hands_out_the_model_too(tmp_path: Path, processes: Processes) -> None:
    workspace = signed_project(tmp_path, images=3)
    coordinator, ticket = serving(processes, workspace)
    command = ("seed", ticket, str(tmp_path / "images"), "--node", str(tmp_path / "seeder"), *LOOPBACK)
    seeding = processes.start("seeder", tmp_path / "seeder", *command)
    files = {file.hash for file in workspace.project().stages[0].task.model.files}
    kept = tmp_path / "seeder" / "models"
    wait_for(seeding, lambda _: len([*kept.glob("*/[!.]*")]) == len(files) == 2, [coordinator])
    processes.stop(coordinator)
    ticket = processes.run("ticket", "--node", str(seeding.directory)).strip()
    assert trio.run(fetched, tmp_path / "late", ticket, list(files), "blob") == files


def test_a_newcomer_is_told_that_no_peer_has_the_model(tmp_path: Path, processes: Processes) -> None:
    workspace = signed_project(tmp_path, images=3)
    coordinator, ticket = serving(processes, workspace)
    watching = ("join", ticket, "--observe", "--node", str(tmp_path / "observer"), *LOOPBACK)
    observer = processes.start("observer", tmp_path / "observer", *watching)
    wait_for(observer, lambda seen: seen.project.images == 3, [coordinator])
    processes.stop(coordinator)
    ticket = processes.run("ticket", "--node", str(observer.directory)).strip()
    command = ("join", ticket, "--node", str(tmp_path / "late"), *LOOPBACK)
    late = processes.start("late", tmp_path / "late", *command)
    wait_for(late, lambda _: "no peer has the model's files now" in late.log.read_text(), [observer])


def test_a_folder_with_none_of_the_images_is_told_loudly(tmp_path: Path, processes: Processes) -> None:
    coordinator, ticket = serving(processes, signed_project(tmp_path, images=3))
    (tmp_path / "other").mkdir()
    command = ("seed", ticket, str(tmp_path / "other"), "--node", str(tmp_path / "seeder"), *LOOPBACK)
    seeding = processes.start("seeder", tmp_path / "seeder", *command)
    wait_for(seeding, lambda _: "NO IMAGE IS HANDED OUT" in seeding.log.read_text(), [coordinator])


def test_images_on_the_web_cannot_be_seeded(tmp_path: Path, processes: Processes) -> None:
    workspace = new_project(tmp_path)
    (tmp_path / "list.jsonl").write_text('{"url": "https://example.org/1.jpg"}\n')
    change(workspace, images={"source": str(tmp_path / "list.jsonl")})
    sign_again(workspace)
    coordinator, ticket = serving(processes, workspace)
    command = ("seed", ticket, str(tmp_path / "images"), "--node", str(tmp_path / "seeder"), *LOOPBACK)
    seeding = processes.start("seeder", tmp_path / "seeder", *command)
    assert seeding.process.wait(PATIENCE) == 2
    assert "There is nothing to seed" in seeding.log.read_text()
    assert "NO IMAGE" not in seeding.log.read_text()
    assert "images are in" not in coordinator.log.read_text()


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path, processes: Processes) -> None:
    workspace = signed_project(tmp_path)
    ticket = str(make_ticket(workspace, workspace.project()))
    done = processes.attempt("seed", ticket, str(tmp_path / "nowhere"), "--node", str(tmp_path / "node"))
    assert done.returncode == 2
    assert f"There is no folder {tmp_path / 'nowhere'}" in done.stderr
    assert not (tmp_path / "node").exists()
