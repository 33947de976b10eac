"""`p2pcap project calibrate` for real: two models, the project's own images, and what the next signing makes of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import Processes
from tests.e2e.swarm_of_processes import PROMPT, ROOT, SHAPES, draw

IMAGES = 200


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stage_is_calibrated_against_another_model(tmp_path: Path, processes: Processes) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.noisy_model", str(SHAPES), str(other), "1.2", "1"], check=True, cwd=ROOT
    )
    given = ("--images", str(draw(tmp_path / "pictures", IMAGES, seed=41)), "--model", str(SHAPES), "--prompt", PROMPT)
    processes.run("project", "init", str(project), *given, "--dtype", "float32", "--max-tokens", "48", "--chunk", "64")
    processes.run("project", "sign", str(project))
    assert "audited by nobody" in processes.run("project", "show", str(project))

    said = processes.run(
        "project", "calibrate", str(project), "--images", str(IMAGES), "--against", str(other), "--json"
    )
    record = json.loads(said)
    kinds = {kind["name"]: kind for kind in record["kinds"]}
    assert kinds["honest"]["items"] == IMAGES // 2
    assert kinds["honest"]["bad"] == 0
    cheats = {"other-image", "copied", "truncated", "random", "edited", "no-image", "model-1"}
    assert cheats < kinds.keys()
    assert {name: kinds[name]["bad"] for name in cheats} == {name: kinds[name]["items"] for name in cheats}
    assert record["false_bans"] <= 1e-5

    processes.run("project", "sign", str(project))
    shown = processes.run("project", "show", str(project))
    assert f"audited by tokens: 0 of {IMAGES // 2} honest items called bad" in shown
    assert f"a ban takes {record['bans_at']}" in shown
