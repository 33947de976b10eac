"""What a volunteer sees who joins on a terminal: the question, the stages, a pause that lasts, and Ctrl+C."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Processes, Running
from p2pcap.node.consent import read_terms
from p2pcap.paths import NodePaths
from tests.e2e.pseudo_terminal import INTERRUPT, Terminal
from tests.e2e.slow_server import SlowServer
from tests.e2e.swarm_of_processes import LOOPBACK, SwarmOfProcesses, draw, wait_for

pytestmark = pytest.mark.slow

UI_SCREEN, UI_LEFT = "\x1b[?1049h", "\x1b[?1049l"
"""A program takes the terminal's second screen, and leaves it (xterm, Control Sequences)."""

SAYS = "a \x1b[31mred\x07 circle"


@pytest.fixture(scope="module")
def server() -> Iterator[SlowServer]:
    serving = SlowServer(lambda asked: SAYS)
    yield serving
    serving.close()


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmOfProcesses]:
    folder = tmp_path_factory.mktemp("joined")
    images = draw(tmp_path_factory.mktemp("images"), 600, seed=5)
    with Processes(folder) as processes:
        yield SwarmOfProcesses(processes, folder, images, wait_for_engines=1)


def join(swarm: SwarmOfProcesses, server: SlowServer, name: str, *arguments: str) -> Terminal:
    """`p2pcap join` on a terminal; a word first that is no option is the ticket."""
    environment = {**swarm.processes.environment, "P2PCAP_YES": ""}
    settings = ("--node", str(swarm.folder / name), *server.engine, *LOOPBACK)
    lines = () if "--tui" in arguments else ("--no-tui",)
    return Terminal("join", *arguments, *settings, *lines, environment=environment)


def test_who_says_no_gives_nothing(swarm: SwarmOfProcesses, server: SlowServer) -> None:
    with join(swarm, server, "no", swarm.ticket, "--name", "Nobody") as shown:
        asked = shown.until("[y/N]")
        for part in ("e2e", "600 images", "signed by  12D3", "shapes", "licence", "Describe the image.", '"Nobody"',
                     "published", "--image-cap", "--upload-limit", "other peers"):  # fmt: skip
            assert part in asked
        seen = wait_for(swarm.coordinator, lambda seen: any(peer.role == "volunteer" for peer in seen.peers))
        assert {peer.name for peer in seen.peers} == {""}, "nobody has heard the name yet"
        shown.type(b"n\n")
        assert shown.ended() == 1
        assert "You did not agree" in shown.output
    paths = NodePaths(swarm.folder / "no")
    assert not paths.consent.exists()
    assert not paths.ticket.exists()


def test_a_volunteers_life_on_a_terminal(swarm: SwarmOfProcesses, server: SlowServer, tmp_path: Path) -> None:
    node = swarm.folder / "yes"
    server.seconds = 2.0
    with join(swarm, server, "yes", swarm.ticket, "--name", "Ada") as shown:
        shown.until("[y/N]")
        shown.type(b"y\n")
        shown.until("first caption: ")
        for part in ("✓ ticket: e2e", "✓ reached 1 peer", "✓ manifest 1 signed by …", "ready: servers, batch 64"):
            assert part in shown.output
        shown.until("circle")
        assert "\x1b[31m" not in shown.output, "a caption does not paint the terminal"
        assert "\x07" not in shown.output
        running = Running("yes", node, shown.process, tmp_path / "none")  # type: ignore[arg-type]
        wait_for(running, lambda seen: seen.node.state == "working")
        assert "paused" in swarm.processes.attempt("pause", "--node", str(node)).stderr
        seen = wait_for(running, lambda seen: seen.node.state == "paused")
        assert seen.engine.in_flight == 0
        assert seen.claims == ()
        assert "you paused it" in swarm.processes.run("status", "--node", str(node))
        shown.type(INTERRUPT)
        assert shown.ended() == 0
    terms = read_terms(NodePaths(node).consent)
    assert terms is not None
    assert terms.name == "Ada"

    server.seconds = 2.0
    with join(swarm, server, "yes", "--name", "Ada") as shown:
        running = Running("yes", node, shown.process, tmp_path / "none")  # type: ignore[arg-type]
        seen = wait_for(running, lambda seen: seen.node.state == "paused")
        assert seen.engine.phase == "off", "a pause outlives the node, and nothing is started during it"
        assert "[y/N]" not in shown.output, "what was agreed to is not asked again"
        assert "going on" in swarm.processes.attempt("resume", "--node", str(node)).stderr
        wait_for(running, lambda seen: seen.engine.in_flight > 0)
        shown.type(INTERRUPT)
        shown.until("finishing what is in hand")
        assert shown.ended() == 0

    server.seconds = 10_000.0
    with join(swarm, server, "yes", "--name", "Ada Lovelace") as shown:
        assert "another name" in shown.until("[y/N]"), "that is to be published, so it is asked about"
        shown.type(b"y\n")
        running = Running("yes", node, shown.process, tmp_path / "none")  # type: ignore[arg-type]
        wait_for(running, lambda seen: seen.engine.in_flight > 0)
        shown.type(INTERRUPT)
        shown.until("finishing what is in hand")
        shown.type(INTERRUPT)
        assert shown.ended() == 130

    server.seconds = 0.0
    done = tmp_path / "done"
    last = ("--name", "Ada Lovelace", "--until-done", "--when-finished", f"run:touch {done}")
    with join(swarm, server, "yes", *last) as shown:
        assert shown.ended() == 0
        assert "touch is done" in shown.output
    assert done.exists()


def test_the_terminal_ui_comes_by_itself_and_is_left_again(swarm: SwarmOfProcesses, server: SlowServer) -> None:
    """After what is above: on a node whose project is finished there is no caption to wait for."""
    with join(swarm, server, "yes", "--name", "Ada Lovelace", "--tui") as shown:
        shown.until(UI_SCREEN)
        shown.type(b"q")
        shown.until("t: the terminal UI again")
        shown.type(b"\n")
        shown.type(INTERRUPT)
        assert shown.ended() == 0
    with join(swarm, server, "yes", "--name", "Ada Lovelace", "--tui") as shown:
        shown.until(UI_SCREEN)
        stop = threading.Thread(target=swarm.processes.run, args=("stop", "--node", str(swarm.folder / "yes")))
        stop.start()
        assert shown.ended() == 0
        stop.join()
        assert shown.output.rindex(UI_LEFT) > shown.output.rindex(UI_SCREEN), "the terminal is given back"
