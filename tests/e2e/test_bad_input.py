"""Wrong input to each command: one clear sentence, the documented exit code, no traceback, nothing half written."""

import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from demo.processes import Processes
from p2pcap.identity import Identity
from tests.e2e.swarm_of_processes import LOOPBACK, SHAPES, SwarmOfProcesses, draw, wait_for

USAGE, NOT_RUNNING, UNTRUSTED, ENGINE, NETWORK = 2, 4, 5, 6, 7


def says(done: "CompletedProcess[str]", code: int, *words: str) -> None:
    """The command ended with `code` and one short message that has these words, and nothing else."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()[-1]) < 400
    for word in words:
        assert word in done.stderr


def init(processes: Processes, directory: Path, images: Path, model: str = str(SHAPES)) -> "CompletedProcess[str]":
    return processes.attempt("project", "init", str(directory), "--images", str(images), "--model", model)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("images"), 70, seed=5)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Iterator[SwarmOfProcesses]:
    """A coordinator that runs."""
    folder = tmp_path_factory.mktemp("served")
    with Processes(folder) as processes:
        yield SwarmOfProcesses(processes, folder, images, wait_for_engines=1)


def test_init_without_the_images_folder(processes: Processes, tmp_path: Path) -> None:
    says(init(processes, tmp_path / "project", tmp_path / "nowhere"), USAGE, "nowhere")
    assert not (tmp_path / "project").exists()


def test_init_with_a_model_that_is_none(processes: Processes, tmp_path: Path, images: Path) -> None:
    (tmp_path / "model").mkdir()
    says(init(processes, tmp_path / "project", images, str(tmp_path / "model")), USAGE, "config.json")
    says(init(processes, tmp_path / "project", images, "no such model"), USAGE, "no such model")
    assert not (tmp_path / "project").exists()


def test_init_twice(processes: Processes, tmp_path: Path, images: Path) -> None:
    assert init(processes, tmp_path / "project", images).returncode == 0
    key = (tmp_path / "project" / "keys" / "root.key").read_bytes()
    says(init(processes, tmp_path / "project", images), USAGE, "already")
    assert (tmp_path / "project" / "keys" / "root.key").read_bytes() == key


def test_sign_before_init(processes: Processes, tmp_path: Path) -> None:
    says(processes.attempt("project", "sign", str(tmp_path)), USAGE, "p2pcap project init")
    assert not (tmp_path / "signed").exists()


def test_sign_with_a_misspelt_key(processes: Processes, tmp_path: Path, images: Path) -> None:
    init(processes, tmp_path / "project", images)
    file = tmp_path / "project" / "project.yaml"
    file.write_text(file.read_text().replace("image_edge:", "image_egde:"))
    says(processes.attempt("project", "sign", str(tmp_path / "project")), USAGE, "image_egde", "image_edge")
    assert not (tmp_path / "project" / "signed").exists()


def test_sign_an_empty_folder(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    init(processes, tmp_path / "project", tmp_path / "images")
    says(processes.attempt("project", "sign", str(tmp_path / "project")), USAGE, "no files of images")
    assert not (tmp_path / "project" / "signed").exists()


def test_sign_with_a_key_that_others_may_read(processes: Processes, tmp_path: Path, images: Path) -> None:
    init(processes, tmp_path / "project", images)
    key = tmp_path / "project" / "keys" / "coordinator.key"
    key.chmod(0o644)
    says(processes.attempt("project", "sign", str(tmp_path / "project")), USAGE, "chmod 600")
    key.chmod(0o600)
    key.write_text("p2pcap-secret-key-1 nonsense")
    says(processes.attempt("project", "sign", str(tmp_path / "project")), USAGE, "damaged")
    assert not (tmp_path / "project" / "signed").exists()


def test_serve_before_signing(processes: Processes, tmp_path: Path, images: Path) -> None:
    init(processes, tmp_path / "project", images)
    says(processes.attempt("bootstrap", "serve", str(tmp_path / "project")), USAGE, "p2pcap project sign")


@pytest.mark.parametrize("part", ["manifest.cbor", "root.cbor", "blobs"])
def test_serve_a_tampered_project(processes: Processes, tmp_path: Path, images: Path, part: str) -> None:
    init(processes, tmp_path / "project", images)
    processes.run("project", "sign", str(tmp_path / "project"))
    signed = tmp_path / "project" / "signed" / part
    file = max(signed.iterdir(), key=lambda path: path.stat().st_size) if signed.is_dir() else signed
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    says(processes.attempt("bootstrap", "serve", str(tmp_path / "project")), UNTRUSTED)


def test_serve_on_a_port_in_use(served: SwarmOfProcesses, images: Path, tmp_path: Path) -> None:
    init(served.processes, tmp_path / "project", images)
    served.processes.run("project", "sign", str(tmp_path / "project"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        done = served.processes.attempt("bootstrap", "serve", str(tmp_path / "project"), "--listen", address)
    says(done, NETWORK, str(address.rsplit("/", 1)[1]))


@pytest.mark.parametrize("change", ["nonsense", "cut", "typo"])
def test_join_with_a_ticket_that_is_none(served: SwarmOfProcesses, change: str, tmp_path: Path) -> None:
    ticket = served.ticket
    wrong = {
        "nonsense": "hello",
        "cut": ticket[:-20],
        "typo": ticket[:60] + ("a" if ticket[60] != "a" else "b") + ticket[61:],
    }[change]
    says(served.processes.attempt("join", wrong, "--observe", "--node", str(tmp_path / "node")), USAGE, "icket")
    assert not (tmp_path / "node").exists()


def test_join_a_project_that_the_address_does_not_serve(served: SwarmOfProcesses, tmp_path: Path, images: Path) -> None:
    """A ticket of another project whose address leads to this one's coordinator: the node says so and goes on."""
    init(served.processes, tmp_path / "project", images)
    served.processes.run("project", "sign", str(tmp_path / "project"))
    other = served.processes.start(
        "other", tmp_path / "project" / "node", "bootstrap", "serve", str(tmp_path / "project"), *LOOPBACK, output=-1
    )
    ticket = served.processes.first_line(other)
    address = ticket_address(served)
    served.processes.stop(other)
    node = tmp_path / "node"
    join = ("join", ticket, "--observe", "--peer", address, "--node", str(node), *LOOPBACK)
    lost = served.processes.start("lost", node, *join)
    wait_for(lost, lambda _: "goes on trying" in lost.log.read_text())
    served.processes.stop(lost)
    assert lost.process.returncode == 0
    assert "Traceback" not in lost.log.read_text()


def ticket_address(served: SwarmOfProcesses) -> str:
    seen = served.coordinator.snapshot()
    assert seen is not None
    return seen.node.addresses[0]


def test_join_in_the_folder_of_another_project(served: SwarmOfProcesses, tmp_path: Path, images: Path) -> None:
    node = tmp_path / "node"
    first = served.processes.start("first", node, "join", served.ticket, "--observe", "--node", str(node), *LOOPBACK)
    while not (seen := first.snapshot()) or not seen.project.images:
        first.check()
    served.processes.stop(first)
    init(served.processes, tmp_path / "project", images)
    served.processes.run("project", "sign", str(tmp_path / "project"))
    other = served.processes.start(
        "another", tmp_path / "project" / "node", "bootstrap", "serve", str(tmp_path / "project"), *LOOPBACK, output=-1
    )
    ticket = served.processes.first_line(other)
    says(served.processes.attempt("join", ticket, "--observe", "--node", str(node), *LOOPBACK), UNTRUSTED, "--node")
    served.processes.stop(other)


def test_join_with_a_model_that_is_none(served: SwarmOfProcesses, tmp_path: Path) -> None:
    model = ("--model", str(tmp_path / "nowhere"))
    says(served.processes.attempt("join", served.ticket, *model, "--node", str(tmp_path / "node")), USAGE, "nowhere")
    assert not (tmp_path / "node").exists()


def events(node: Path) -> set[str]:
    return {json.loads(line)["event"] for line in (node / "node.jsonl").read_text().splitlines()}


def test_join_with_a_gpu_that_is_not_there(served: SwarmOfProcesses, tmp_path: Path) -> None:
    node = tmp_path / "node"
    done = served.processes.attempt("join", served.ticket, "--gpus", "99", "--node", str(node), *LOOPBACK)
    says(done, ENGINE, "--gpus names GPU")
    assert "claim" not in events(node)


def test_join_with_a_server_that_is_not_there(served: SwarmOfProcesses, tmp_path: Path) -> None:
    node = tmp_path / "node"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{closed.getsockname()[1]}"
        engine = ("--engine", "openai", "--url", f"http://{server}/v1")
        done = served.processes.attempt("join", served.ticket, *engine, "--node", str(node), *LOOPBACK)
    says(done, ENGINE, server)
    assert "claim" not in events(node)
    assert not (node / "models").exists(), "the model is the server's"


def test_join_with_switches_that_contradict_each_other(processes: Processes, tmp_path: Path) -> None:
    says(processes.attempt("join", "--engine", "openai", "--node", str(tmp_path / "node")), USAGE, "--url")
    assert not (tmp_path / "node").exists()


def test_join_without_a_ticket_before_any_was_joined(processes: Processes) -> None:
    says(processes.attempt("join"), USAGE, "p2pcap join TICKET")


def test_join_with_a_damaged_key(served: SwarmOfProcesses, tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()
    (node / "node.key").write_text("not a key")
    (node / "node.key").chmod(0o600)
    says(served.processes.attempt("join", served.ticket, "--observe", "--node", str(node)), USAGE, "node.key")


@pytest.mark.parametrize("command", [["status"], ["query", "SELECT 1"], ["stop"], ["ticket"], ["export", "jsonl", "x"]])
def test_commands_without_a_node(processes: Processes, command: list[str]) -> None:
    says(processes.attempt(*command), NOT_RUNNING, "p2pcap join")


@pytest.mark.parametrize(
    "sql",
    ["SELEC 1", "DELETE FROM caption", "SELECT * FROM read_csv('/etc/passwd')", "SELECT 1; SELECT 2", "ATTACH 'x'"],
)
def test_query_refuses(served: SwarmOfProcesses, sql: str) -> None:
    says(served.processes.attempt("query", sql, "--node", str(served.coordinator.directory)), USAGE)


def test_export_over_a_file(served: SwarmOfProcesses, tmp_path: Path) -> None:
    there = tmp_path / "captions.jsonl"
    there.write_text("mine")
    where = ("--node", str(served.coordinator.directory))
    says(served.processes.attempt("export", "jsonl", str(there), *where), USAGE, "--force")
    assert there.read_text() == "mine"
    says(served.processes.attempt("export", "jsonl", str(tmp_path / "no" / "dir" / "x"), *where), USAGE)
    assert sorted(os.listdir(tmp_path)) == ["captions.jsonl"]


def test_verify_what_is_no_export(processes: Processes, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"key": "a"}) + "\n")
    done = processes.attempt("verify", str(file))
    assert done.returncode in (USAGE, UNTRUSTED)
    assert "Traceback" not in done.stderr


def test_keys_are_for_their_owner_only(served: SwarmOfProcesses) -> None:
    keys = [*(served.project / "keys").iterdir(), served.coordinator.directory / "node.key"]
    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600] * len(keys)


@pytest.mark.parametrize("option", ["--peer", "--listen"])
@pytest.mark.parametrize("address", ["example.org:4001", "/ip4/192.0.2.7/udp/4001/quic-v1", "/ip4/300.0.0.1/tcp/1"])
def test_join_with_an_address_that_is_none(served: SwarmOfProcesses, tmp_path: Path, option: str, address: str) -> None:
    done = served.processes.attempt(
        "join", served.ticket, "--observe", option, address, "--node", str(tmp_path / "node")
    )
    says(done, NETWORK, address, "/ip4/")


def test_join_on_a_port_in_use(served: SwarmOfProcesses, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        done = served.processes.attempt(
            "join", served.ticket, "--observe", "--listen", address, "--node", str(tmp_path / "node")
        )
    says(done, NETWORK, address.rsplit("/", 1)[1], "another port")


def test_a_node_says_once_why_peers_are_not_to_be_had_and_goes_on(
    served: SwarmOfProcesses, tmp_path: Path, images: Path
) -> None:
    """Nobody listens at one address, somebody else answers at one, and one is of another project."""
    init(served.processes, tmp_path / "project", images)
    served.processes.run("project", "sign", str(tmp_path / "project"))
    serve = ("bootstrap", "serve", str(tmp_path / "project"), *LOOPBACK)
    other = served.processes.start("foreign", tmp_path / "project" / "node", *serve, output=-1)
    served.processes.first_line(other)
    foreign = wait_for(other, lambda snapshot: bool(snapshot.node.addresses)).node.addresses[0]
    nobody = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.generate().peer_id}"
    wrong = ticket_address(served).partition("/p2p/")[0] + f"/p2p/{Identity.generate().peer_id}"
    peers = [word for address in (nobody, wrong, foreign) for word in ("--peer", address)]
    command = ("join", served.ticket, "--observe", "--node", str(tmp_path / "node"), *LOOPBACK, *peers)
    node = served.processes.start("well", tmp_path / "node", *command)
    reasons = ("refused", "Another peer", "of another project")
    seen = wait_for(node, lambda seen: seen.project.images > 0 and all(r in node.log.read_text() for r in reasons))
    served.processes.stop(node)
    served.processes.stop(other)
    said = node.log.read_text()
    assert "Traceback" not in said
    for words in reasons:
        (trouble,) = [trouble for trouble in seen.network.troubles if words in trouble]
        assert said.count(trouble) == 1


def test_without_any_network_a_node_says_so_and_goes_on(served: SwarmOfProcesses, tmp_path: Path) -> None:
    """In a network namespace with nothing in it, with multicast, the router and relays all looked for."""
    isolated = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    allowed = subprocess.run([*isolated, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"the kernel forbids network namespaces: {allowed.stderr.strip()}")
    folder = tmp_path / "node"
    join = ("join", served.ticket, "--observe", "--node", str(folder))
    first = served.processes.start("before", folder, *join, *LOOPBACK)
    wait_for(first, lambda snapshot: snapshot.project.images > 0)
    served.processes.stop(first)
    node = served.processes.start("isolated", folder, *join, prefix=isolated)
    seen = wait_for(node, lambda snapshot: bool(snapshot.network.troubles) and "again" in node.log.read_text())
    assert "nreachable" in seen.network.troubles[0]
    served.processes.stop(node)
    assert node.process.returncode == 0
    assert "Traceback" not in node.log.read_text()
    assert "Traceback" not in (folder / "node.jsonl").read_text()
