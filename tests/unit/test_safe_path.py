"""What lies in the current folder is never imported by a process that p2pcap starts."""

import asyncio
import re
import socket
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

import p2pcap
import p2pcap_tui
from p2pcap.cli import looking
from p2pcap.cli.tui import _observer
from p2pcap.engine.decoding import Decoder
from p2pcap.engine.life import _open_process
from p2pcap.errors import NotRunningError
from p2pcap.sources.child import Limits, open_child
from p2pcap_tui.maintainer import diff
from p2pcap_tui.project_words import Folder

PLANTED = "import pathlib; (pathlib.Path(__file__).parents[1] / 'ran').touch(); raise SystemExit(3)"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: one with a package p2pcap of its own, which says that it ran."""
    package = tmp_path / "dataset" / "p2pcap"
    package.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        (package / name).write_text(PLANTED)
    monkeypatch.chdir(package.parent)
    return package.parent


def observe() -> None:
    """A node that watches; its ticket is none, so it ends at once."""

    def until_it_ends(check: Callable[[], None]) -> None:
        while True:
            check()

    observer = _observer(Path("node").absolute(), "p2pcap:nonsense")
    with observer as check, pytest.raises(NotRunningError, match="ticket"):
        until_it_ends(check)


def read_an_image() -> None:
    """A decoder that answers."""
    decoder = Decoder()
    try:
        decoder.wait_ready()
    finally:
        decoder.close()


def read_a_table() -> None:
    """A process that reads strangers' files, which answers."""

    async def ask() -> None:
        async with open_child("p2pcap.sources.stream_child", Limits(2**30), 30) as child:
            await child.send(b"nothing that it knows")
            assert await child.receive(100_000)

    trio.run(ask)


def start_an_engine() -> None:
    """An engine's process whose node has gone."""

    async def start(output: BinaryIO) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await _open_process(theirs.fileno(), output, {})
        ours.close()
        await process.wait()

    with open("log", "wb") as output:
        trio.run(start, output)


def look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal UI beside a node, where there is no terminal after all."""

    async def restored(kept: list[object], left: bool) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(termios, "tcgetattr", lambda fd: [])
    monkeypatch.setattr(looking, "_restore", restored)
    with open("/dev/null") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert trio.run(looking.look, Path("node")) == 2


@pytest.mark.parametrize("starts", [observe, read_an_image, read_a_table, start_an_engine])
def test_the_current_folder_is_not_searched(hostile: Path, starts: Callable[[], None]) -> None:
    try:
        starts()
    finally:
        assert not (hostile / "ran").exists()


def test_nor_by_the_terminal_ui(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        look(monkeypatch)
    finally:
        assert not (hostile / "ran").exists()


def test_nor_by_what_the_terminal_ui_asks(hostile: Path) -> None:
    asyncio.run(diff(Folder(str(hostile), ())))
    assert not (hostile / "ran").exists()


def test_every_python_that_is_started_leaves_the_current_folder_out() -> None:
    packages = [Path(str(package.__file__)).parent for package in (p2pcap, p2pcap_tui)]
    texts = [path.read_text() for package in packages for path in package.rglob("*.py")]
    first = [word for text in texts for word in re.findall(r"sys\.executable, \"(-[a-zA-Z]+)", text)]
    assert len(first) >= 8
    assert set(first) == {"-P"}
