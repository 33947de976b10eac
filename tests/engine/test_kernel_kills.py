"""The kernel's count of processes killed for memory, on machines of every kind."""

from pathlib import Path

import pytest

from p2pcap.engine import kernel_kills


@pytest.mark.parametrize(
    ("groups", "events", "killed"),
    [
        ("0::/user.slice/app\n", "user.slice/app/memory.events", 3),
        ("5:cpu:/x\n4:memory:/job/1\n0::/\n", "memory/job/1/memory.oom_control", 3),
        ("0::/gone\n", "elsewhere", 9),
        ("", "elsewhere", 9),
        ("no such lines", "elsewhere", 9),
    ],
    ids=["version 2", "version 1", "not told", "none", "strange"],
)
def test_kills_of_ones_own_group_are_counted_or_those_of_the_machine(
    tmp_path: Path, groups: str, events: str, killed: int
) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 9\n")
    (tmp_path / "groups").write_text(groups)
    file = tmp_path / "fs" / events
    file.parent.mkdir(parents=True)
    file.write_text("oom 5\noom_kill_disable 0\noom_kill 3\n")
    assert kernel_kills.count(tmp_path / "vmstat", tmp_path / "groups", tmp_path / "fs") == killed


def test_a_machine_that_tells_nothing_counts_none(tmp_path: Path) -> None:
    assert kernel_kills.count(tmp_path / "vmstat", tmp_path / "groups", tmp_path / "fs") == 0
    (tmp_path / "vmstat").write_text("oom_kill many\n")
    assert kernel_kills.count(tmp_path / "vmstat", tmp_path / "groups", tmp_path / "fs") == 0


def test_this_machine_can_be_asked() -> None:
    assert kernel_kills.count() >= 0
