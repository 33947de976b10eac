"""A volunteer's first minutes on the screen: stages, lines, and the terminal UI after them."""

import sys
from pathlib import Path

import click
import msgspec
import pytest

from p2pcap.cli.live import HELD, Live
from p2pcap.cli.looking import wants_ui
from p2pcap.cli.stages import CAPTION, IDLE_FOR, Stages
from p2pcap.errors import ConfigError
from p2pcap.node.options import NodeOptions, Role
from p2pcap.node.saying import Passing
from p2pcap.node.snapshot import EngineInfo, EngineUnit, NodeInfo, NodeSnapshot, PeerInfo, ProjectInfo
from p2pcap.project.ticket import Ticket
from tests.unit.store_project import ADA, BOB

NODE = NodeInfo(ADA.peer_id, "Ada", "volunteer", "0", 1, 0.0, "/x", state="starting")
PROJECT = ProjectInfo("Cats", "ab" * 32, 7, BOB.peer_id, "Qwen", ("What?",), 5_000, 80, wanted=5_000)
GPU = EngineUnit("GPU 0", "ready", device="cuda RTX 3090")


def options(role: Role = "volunteer") -> NodeOptions:
    return NodeOptions(Path("x"), role, Ticket("Cats", bytes(32)))


def at(**changes: object) -> NodeSnapshot:
    """A volunteer's node that has nothing yet, with these changes; `state` is the node's."""
    node = msgspec.structs.replace(NODE, state=changes.pop("state", "starting"))
    first = NodeSnapshot(0.0, node, ProjectInfo("Cats", "ab" * 32))
    return msgspec.structs.replace(first, **changes)


PEERS = (PeerInfo(BOB.peer_id, "/x"), PeerInfo(ADA.peer_id, "/y", relayed=True))
FETCHING = EngineInfo("starting", "fetching the model Qwen: 6.10 of 16.40 GB")
LOADING = EngineInfo("loading", "loading the model", units=(GPU,))
READY = EngineInfo("ready", "", "cuda RTX 3090", units=(GPU,))
CAPTIONED = msgspec.structs.replace(READY, phase="captioning", first_caption="A cat.\x1b[2J" + "x" * 500)


def test_each_stage_is_told_once_and_what_it_is_at() -> None:
    seen = Stages(options())
    life = [
        (at(), ["✓ ticket: Cats"], "⇣ looking for a peer"),
        (at(peers=PEERS), ["✓ reached 2 peers (direct 1, relayed 1)"], "⇣ getting the project from a peer"),
        (
            at(peers=PEERS, project=PROJECT, engine=FETCHING),
            [f"✓ manifest 7 signed by …{BOB.peer_id[-12:]}: Cats, 5000 images"],
            "⇣ fetching the model Qwen: 6.10 of 16.40 GB",
        ),
        (at(project=PROJECT, engine=LOADING), ["✓ model Qwen"], "⇣ engine loading: loading the model"),
        (
            at(project=PROJECT, engine=READY),
            ["✓ cuda RTX 3090 ready: GPU 0, 90 % of its memory, batch 64; images up to 4.3 GB, captions up to 8.6 GB"],
            "⇣ captioning the first images",
        ),
        (at(project=PROJECT, engine=LOADING), [], "⇣ captioning the first images"),
    ]
    for snapshot, news, current in life:
        assert list(seen.news(snapshot)) == news
        assert seen.current(snapshot) == current
        assert not seen.settled(snapshot)
    last = at(project=PROJECT, engine=CAPTIONED)
    (caption,) = seen.news(last)
    assert caption.startswith("✓ first caption: A cat.")
    assert len(caption) == len("✓ first caption: ") + CAPTION
    assert seen.current(last) is None
    assert seen.settled(last)
    assert list(seen.news(last)) == []


def test_a_node_that_has_its_project_needs_no_peer_to_go_on() -> None:
    seen = Stages(options())
    assert [line.split(":")[0] for line in seen.news(at(project=PROJECT, engine=READY))] == [
        "✓ ticket", "✓ no peer yet; the project is here from before",
        f"✓ manifest 7 signed by …{BOB.peer_id[-12:]}", "✓ model Qwen", "✓ cuda RTX 3090 ready",
    ]  # fmt: skip


def test_nobody_waits_for_a_caption_that_does_not_come() -> None:
    seen = Stages(options())
    assert all(seen.settled(at(state=state)) for state in ("paused", "finished"))
    assert not seen.settled(at(state="idle", published=10.0))
    assert not seen.settled(at(state="working", published=20.0))
    assert not seen.settled(at(state="idle", published=30.0))
    assert seen.settled(at(state="idle", published=30.0 + IDLE_FOR))


def test_an_observer_has_no_engine_to_wait_for() -> None:
    node = msgspec.structs.replace(NODE, role="observer", state="observing")
    seen = Stages(options("observer"))
    snapshot = NodeSnapshot(0.0, node, PROJECT, peers=PEERS[:1])
    assert list(seen.news(snapshot))[1] == "✓ reached 1 peer"
    assert seen.current(snapshot) is None


class Screen:
    """What is written to standard error, which is a terminal or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
        self.lines: list[str] = []
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(click, "echo", lambda text, err=False, nl=True: self.lines.append(text))


def test_a_line_that_something_else_replaces_is_not_kept_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, terminal=True)
    live = Live(options())
    live.say(Passing("fetching the model: 1 %"))
    live.say("images cannot be read here")
    live.progress(at(peers=PEERS, project=PROJECT, engine=CAPTIONED))
    live.say(Passing("engine restarting"))
    kept = [line[10:] for line in screen.lines if ":" in line[:6]]
    assert kept[0] == "images cannot be read here"
    assert kept[-1] == "engine restarting", "later it is news"
    assert all("\x1b" not in line for line in kept)


def test_elsewhere_each_line_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, terminal=False)
    live = Live(options())
    live.say(Passing("fetching the model: 1 %"))
    live.progress(at(peers=PEERS, project=PROJECT, engine=READY))
    assert [line[10:].partition(":")[0] for line in screen.lines] == [
        "fetching the model", "✓ ticket", "✓ reached 2 peers (direct 1, relayed 1)",
        f"✓ manifest 7 signed by …{BOB.peer_id[-12:]}", "✓ model Qwen", "✓ cuda RTX 3090 ready",
        "0/5000 images (0.0 %), 2 peers, engine ready, 0.0 images/s, 0 tokens/s here",
    ]  # fmt: skip


def test_what_is_said_while_something_else_has_the_terminal_comes_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, terminal=False)
    live = Live(options("coordinator"))
    live.quiet(True)
    for number in range(HELD + 5):
        live.say(f"line {number}")
    live.progress(at(project=PROJECT))
    assert screen.lines == []
    live.quiet(False)
    assert [line[10:] for line in screen.lines] == [f"line {number}" for number in range(5, HELD + 5)]


def test_a_terminal_ui_needs_a_terminal() -> None:
    assert wants_ui(None) is False
    assert wants_ui(False) is False
    with pytest.raises(ConfigError, match="no terminal"):
        wants_ui(True)
