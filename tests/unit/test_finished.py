"""What a node does when every image has its row: stay, leave, or run a command; and again when there is new work."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from p2pcap.cli.join import finish_command
from p2pcap.codec import decode
from p2pcap.errors import ConfigError
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.finished import LEAVE_WITHIN, Finished, finish_id, run_command
from p2pcap.node.options import NodeOptions
from p2pcap.paths import NodePaths
from p2pcap.project.records import Stage
from p2pcap.project.task import Prompt
from p2pcap.project.ticket import Ticket
from tests.makers import ADA, BOB, TASK, make_grant, make_project, make_result, signed

MADE = make_project((64,))
MORE = msgspec.structs.replace(TASK, prompts=(Prompt("caption", "What else?"),))
WRITES = "import os, pathlib; p = pathlib.Path('ran'); p.write_text((p.read_text() if p.exists() else '') + 'x')"


class Ending:
    """A node whose project is finished, stage by stage, by somebody else."""

    def __init__(self, folder: Path, *command: str, until_done: bool = False) -> None:
        stages = Stage("one", TASK), Stage("two", MORE)
        self.plan = msgspec.structs.replace(MADE.project.plan, stages=stages[:1])
        self.ledger = Ledger(signed(self.plan))
        for author in (ADA, BOB):
            envelope = make_grant(self.ledger.project, author)
            self.ledger.add(envelope, decode(envelope.payload, Grant))
        self.lines: list[str] = []
        self.left = trio.Event()
        self.change, self.paths = Change(), NodePaths(folder)
        ticket = Ticket(MADE.project.title, MADE.project.hash)
        options = NodeOptions(folder, "observer", ticket, until_done=until_done, when_finished=command)
        nobody: Any = self._nobody
        self.finished = Finished(
            options, self.paths, ADA.public, self.ledger, self.change, Change(), nobody, self.lines.append
        )

    async def _nobody(self) -> list[Any]:
        return []

    def do(self, stage: int) -> None:
        result, _ = make_result(self.ledger.project, 0, [MADE.row(0, index) for index in range(64)], stage=stage)
        id_ = bytes([stage, 7]) * 16
        self.ledger.add_result(id_, BOB.public, result)
        self.ledger.complete(id_, BOB.public, result, 0)
        self.change.tell()

    def grow(self) -> None:
        """The maintainer adds a stage."""
        stages = Stage("one", TASK), Stage("two", MORE)
        self.ledger.adopt(signed(msgspec.structs.replace(self.plan, stages=stages), version=2))
        self.change.tell()

    async def hears(self, part: str) -> None:
        with trio.fail_after(60):
            while not any(part in line for line in self.lines):  # noqa: ASYNC110 - a command of another process
                await trio.sleep(0.01)


def test_it_stays_and_goes_on_when_there_is_new_work(tmp_path: Path) -> None:
    async def main() -> None:
        node = Ending(tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.finished.run, node.left.set)
            await wait_all_tasks_blocked()
            assert node.lines == []
            node.do(0)
            await wait_all_tasks_blocked()
            node.grow()
            await wait_all_tasks_blocked()
            node.do(1)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        stays = "every image has its row; staying to serve others, Ctrl+C leaves"
        assert node.lines == [stays, "there is new work in the project", stays]
        assert not node.left.is_set()

    trio.run(main)


def test_it_leaves_unless_work_comes_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        node = Ending(tmp_path, until_done=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.finished.run, node.left.set)
            node.do(0)
            await wait_all_tasks_blocked()
            node.grow()
            clock.jump(2)
            await wait_all_tasks_blocked()
            assert node.lines[-1] == "there is new work in the project"
            node.do(1)
            await wait_all_tasks_blocked()
            assert not node.left.is_set(), "nobody holds it yet"
            clock.jump(LEAVE_WITHIN + 1)
            await node.left.wait()

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)


def test_a_command_is_run_once_for_each_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def live(node: Ending, *stages: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.finished.run, node.left.set)
            for stage in stages:
                node.lines.clear()
                if stage:
                    node.grow()
                    await wait_all_tasks_blocked()
                node.do(stage)
                await node.hears("staying")
            nursery.cancel_scope.cancel()

    command = sys.executable, "-c", WRITES
    trio.run(live, Ending(tmp_path, *command), 0, 1)
    assert (tmp_path / "ran").read_text() == "xx", "once for each of the two"
    again = Ending(tmp_path, *command)
    trio.run(live, again, 0)
    trio.run(live, Ending(tmp_path, *command), 0)
    assert (tmp_path / "ran").read_text() == "xxx", "another set of images and questions, and once for that"


def finish(node: Ending, hears: str, crash: bool = False) -> None:
    """The node until it said that; with `crash` it is gone at that moment."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.finished.run, node.left.set)
            node.do(0)
            await node.hears(hears)
            if not crash:
                await node.hears("staying")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_command_that_a_crash_cut_short_is_not_run_again(tmp_path: Path) -> None:
    begins = "import pathlib, sys, time; pathlib.Path(sys.argv[1], sys.argv[2]).touch(); time.sleep(float(sys.argv[3]))"

    def node(name: str, seconds: str) -> Ending:
        return Ending(tmp_path, sys.executable, "-c", begins, str(tmp_path), name, seconds)

    finish(node("first", "1000"), "running", crash=True)
    second = node("second", "0")
    finish(second, "is not run again")
    assert any(f"remove {second.paths.finished}" in line for line in second.lines), second.lines
    assert not (tmp_path / "second").exists()
    second.paths.finished.unlink()
    finish(node("third", "0"), "is done")
    assert (tmp_path / "third").exists()


def test_a_command_that_cannot_be_run_may_be_corrected(tmp_path: Path) -> None:
    finish(Ending(tmp_path, "/nowhere/command"), "could not be run")
    finish(Ending(tmp_path, sys.executable, "-c", "pass"), "is done")
    silent = Ending(tmp_path, sys.executable, "-c", "pass")
    finish(silent, "staying")
    assert len(silent.lines) == 1, "it was run"


def test_a_command_whose_mark_cannot_be_kept_is_not_run(tmp_path: Path) -> None:
    node = Ending(tmp_path, sys.executable, "-c", "pass")
    node.paths.finished.mkdir()
    finish(node, "is not run")
    assert not any("running" in line for line in node.lines)


def test_the_command_is_told_which_finish_it_is(tmp_path: Path) -> None:
    shows = "import os; print({k: v for k, v in os.environ.items() if k.startswith('P2PCAP_')})"
    node = Ending(tmp_path, sys.executable, "-c", shows)
    node.ledger.project = replace(
        node.ledger.project, root=msgspec.structs.replace(node.ledger.project.root, name="\x1b[2JCats; rm -rf /\0")
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.finished.run, node.left.set)
            node.do(0)
            await node.hears("staying")
            nursery.cancel_scope.cancel()

    trio.run(main)
    told = node.paths.finished_log.read_text()
    for part in (
        "'P2PCAP_EVENT': 'finished'", "'P2PCAP_PROJECT_NAME': '[2JCats; rm -rf /'", "'P2PCAP_IMAGES': '64'",
        "'P2PCAP_ROWS': '64'", f"'P2PCAP_NODE': '{tmp_path}'", "'P2PCAP_MANIFEST': '1'",
    ):  # fmt: skip
        assert part in told


@pytest.mark.parametrize(
    ("command", "ran", "said"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), True, "ended with code 3"),
        (("/nowhere/command",), False, "could not be run"),
        ((sys.executable, "-c", "pass"), True, "is done"),
    ],
)
def test_how_a_command_ended_is_said(tmp_path: Path, command: tuple[str, ...], ran: bool, said: str) -> None:
    lines: list[str] = []
    assert trio.run(run_command, command, {}, tmp_path / "log", lines.append) is ran
    assert said in lines[0]


def test_a_finish_is_the_same_however_often_it_is_signed() -> None:
    project = signed(MADE.project.plan)
    assert finish_id(project) == finish_id(signed(msgspec.structs.replace(MADE.project.plan, title="Other"), version=2))
    assert finish_id(project) != finish_id(make_project((65,)).project)


def test_what_is_to_be_done_then() -> None:
    assert finish_command("stay") == finish_command("leave") == ()
    assert finish_command("run:p2pcap export jsonl 'my file.jsonl'") == ("p2pcap", "export", "jsonl", "my file.jsonl")
    for wrong in ("go", "run:", "run: ", "run:'open", "", "leave:now"):
        with pytest.raises(ConfigError, match="--when-finished"):
            finish_command(wrong)
