"""`p2pcap log`: short lines of a node's log, and what is still to come, through rotation and restart."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2pcap.cli.log import LONGEST, Tail, counts, last_lines, short
from p2pcap.cli.main import run
from p2pcap.errors import ConfigError
from p2pcap.node import logs
from p2pcap.paths import NodePaths
from tests.unit.control_node import runtime

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    """A node that has run before."""
    made = NodePaths(tmp_path / "node")
    made.directory.mkdir()
    made.database.touch()
    return made


def line(event: str, level: str = "info", **fields: object) -> bytes:
    entry = {"event": event, "level": level, "timestamp": "2027-01-15T08:00:00Z", **fields}
    return json.dumps(entry).encode() + b"\n"


def log(paths: NodePaths, capsys: Capture, *words: str) -> list[str]:
    assert run(["log", "--node", str(paths.directory), *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_lines_are_short_and_in_order(paths: NodePaths, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    paths.log.write_bytes(
        line("starting", pid=7) + line("peer_banned", "warning", peer="12D3", reason="lies") + b"torn"
    )
    assert log(paths, capsys) == [
        "2027-01-15 08:00:00  info     starting: pid 7",
        "2027-01-15 08:00:00  warning  peer_banned: peer 12D3, reason lies",
    ]
    assert log(paths, capsys, "-q", "-n", "1") == ["peer_banned: peer 12D3, reason lies"]
    assert [json.loads(one)["event"] for one in log(paths, capsys, "--json")] == ["starting", "peer_banned"]


def test_levels_and_numbers_of_lines(paths: NodePaths, capsys: Capture) -> None:
    paths.log.write_bytes(b"".join(line(f"e{n}", "warning" if n % 10 == 0 else "debug") for n in range(100)))
    assert len(log(paths, capsys)) == 50
    assert log(paths, capsys, "-q", "--level", "warning", "-n", "3") == ["e70", "e80", "e90"]
    assert log(paths, capsys, "-n", "0") == []


def test_what_is_no_json_is_shown_and_of_every_level(paths: NodePaths, capsys: Capture) -> None:
    paths.log.write_bytes(b"a \x1b[31mline\xff\n[1]\n" + b"[" * 100_000 + b"\n" + line("x", "loud"))
    shown = log(paths, capsys, "--level", "error", "-q")
    assert shown[:2] == ["a [31mline\ufffd", "[1]"]
    assert shown[3] == "x"
    assert json.loads(log(paths, capsys, "--json")[0]) == {"event": "a \x1b[31mline\ufffd"}


def test_a_log_that_is_closed_to_this_user(closed: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        list(Tail(NodePaths(closed).log).there())


def test_a_log_that_is_not_there_yet_or_is_none(paths: NodePaths, capsys: Capture) -> None:
    assert run(["log", "--node", str(paths.directory)]) == 0
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", f"there is no {paths.log} yet")
    paths.log.mkdir()
    assert run(["log", "--node", str(paths.directory)]) == 2
    assert "Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_why_nothing_is_shown(
    paths: NodePaths, capsys: Capture, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(paths.directory)  # where no example of a settings file is warned of

    def said(*words: str) -> str:
        assert run(["log", "--node", str(paths.directory), *form, *words]) == 0
        out, err = capsys.readouterr()
        assert out == ""
        return "".join(err.splitlines()[-1:])

    paths.log.touch()
    assert said() == said("--level", "error") == f"nothing is logged in {paths.log} yet"
    paths.log.write_bytes(line("starting"))
    assert said("--level", "error") == f"nothing of level error or above is in {paths.log}"
    assert said("-n", "0") == said("-n", "0", "--level", "error") == "", "nothing was asked for"
    paths.log.rename(paths.earlier_log)
    paths.log.touch()
    assert said("--level", "error") == f"nothing of level error or above is in {paths.log}"
    if not form:
        assert said("--level", "error", "-q") == ""


@pytest.mark.parametrize("count", ["-1", "1000001", "many", ""])
def test_numbers_of_lines_that_are_none(paths: NodePaths, capsys: Capture, count: str) -> None:
    assert run(["log", "--node", str(paths.directory), "-n", count]) == 2
    assert "'-n' / '--lines'" in capsys.readouterr().err


def test_following_says_that_it_waits(paths: NodePaths) -> None:
    code = "from p2pcap.cli.main import main; main()"
    command = [sys.executable, "-c", code, "log", "-f", "--node", str(paths.directory)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=paths.directory
    ) as end:
        assert end.stderr is not None
        assert end.stdout is not None
        assert end.stderr.readline() == f"there is no {paths.log} yet; waiting\n"
        paths.log.write_bytes(line("first"))
        assert end.stdout.readline().endswith("first\n")
        end.terminate()


def test_lines_before_the_rotation_count_too(paths: NodePaths) -> None:
    paths.earlier_log.write_bytes(line("a") + line("b"))
    paths.log.write_bytes(line("c"))
    with Tail(paths.log) as tail:
        found = last_lines(paths, tail, 2, "debug")
    assert [json.loads(one)["event"] for one in found] == ["b", "c"]


def _moved(path: Path) -> None:
    path.rename(path.with_name("node.jsonl.7"))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("rotate", [_moved, _emptied, _removed])
def test_following_goes_on_through_rotation(paths: NodePaths, rotate: Callable[[Path], None]) -> None:
    with Tail(paths.log) as tail:
        assert list(tail.there()) == [], "there is no log yet"
        _through(tail, paths, rotate)


def _through(tail: Tail, paths: NodePaths, rotate: Callable[[Path], None]) -> None:
    with paths.log.open("ab", buffering=0) as node:
        node.write(b"one\ntw")
        assert list(tail.there()) == [b"one"]
        node.write(b"o\n")
        assert list(tail.there()) == [b"two"]
        node.write(b"three\n")
        if rotate is not _emptied:
            rotate(paths.log)
            node.write(b"four\n")
        assert list(tail.there()) == [b"three"] + [b"four"] * (rotate is not _emptied)
        if rotate is _emptied:
            rotate(paths.log)
    assert list(tail.there()) == []
    with paths.log.open("ab") as node:
        node.write(b"five\n")
    assert list(tail.there()) == [b"five"]


def test_a_line_without_end_takes_bounded_memory(paths: NodePaths) -> None:
    with paths.log.open("wb") as file:
        file.write(b"x" * (3 * LONGEST + 5))
    with Tail(paths.log) as tail:
        assert all(len(one) <= 2 * LONGEST for one in tail.there())


def test_following_from_another_process(paths: NodePaths) -> None:
    paths.log.write_bytes(line("before"))
    code = "from p2pcap.cli.main import main; main()"
    command = [sys.executable, "-c", code, "log", "-f", "-q", "--level", "info", "--node", str(paths.directory)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as end:
        assert end.stdout is not None
        assert end.stdout.readline() == "before\n"
        paths.log.rename(paths.earlier_log)
        paths.log.write_bytes(line("hidden", "debug") + line("after"))
        assert end.stdout.readline() == "after\n"
        end.terminate()


@pytest.mark.parametrize("stamp", ["", "nonsense", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00", 7, None])
def test_times_that_are_none_are_shown_as_they_stand(stamp: object) -> None:
    assert short({"event": "x", "timestamp": stamp, "level": ["odd"]}).endswith("x")
    assert counts(json.dumps({"level": ["odd"]}).encode(), "error")


# what the node writes


def test_every_line_of_a_log_is_a_json_object(paths: NodePaths) -> None:
    code = (
        "import logging, sys, structlog\nfrom pathlib import Path\nfrom p2pcap.node.logs import log_to\n"
        "log_to(Path(sys.argv[1]), 'info')\n"
        "structlog.get_logger().info('ours', name='it\\'s \\ud800')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('lib').exception('it\\'s %s', 'broken')\n"
        "logging.getLogger('lib').warning('odd %d', 'text')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(paths.log)], check=True)
    entries = [json.loads(one) for one in paths.log.read_bytes().splitlines()]
    assert entries[0]["event"] == "ours"
    assert (entries[1]["event"], entries[1]["level"], entries[1]["library"]) == ("it's broken", "error", "lib")
    assert "ZeroDivisionError" in entries[1]["exception"]


def test_a_log_that_grows_too_long_is_begun_anew(paths: NodePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST", 1_000)
    file = logs.LogFile(paths.log)
    for number in range(100):
        file.write(f"{number:099}\n")
    file.close()
    assert paths.log.stat().st_size <= 1_100
    assert paths.earlier_log.stat().st_size <= 1_200
    kept = (paths.earlier_log.read_text() + paths.log.read_text()).split()
    assert [int(one) for one in kept] == list(range(100 - len(kept), 100))


def test_a_log_on_a_full_disk_ends_nothing(
    paths: NodePaths, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    file = logs.LogFile(paths.log)
    with full_disk():
        file.write("lost\n")
    file.write("kept\n")
    file.close()
    assert paths.log.read_text() == "kept\n"
