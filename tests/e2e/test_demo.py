"""`make demo`, interrupted: nothing is left running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.swarm_of_processes import ROOT

pytestmark = pytest.mark.slow

MARK = "P2PCAP_TEST_DEMO"


def marked(value: str) -> list[psutil.Process]:
    """Every process that inherited the mark from the demo."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo", "--output", str(tmp_path / "output")],
        cwd=ROOT,
        env={**os.environ, MARK: str(tmp_path), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert demo.stderr is not None
    with demo.stderr:
        for line in demo.stderr:
            if "start their engines" in line:
                break
        assert len(marked(str(tmp_path))) >= 5, "the demo, a coordinator, two volunteers and an observer"
        demo.send_signal(signal.SIGINT)
        demo.stderr.read()
    assert demo.wait(timeout=120) == 130
    assert marked(str(tmp_path)) == []
    assert list(tmp_path.glob("p2pcap-demo-*")) == []
