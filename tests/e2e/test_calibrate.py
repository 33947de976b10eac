"""`p2pcap project calibrate` for real: two models, the project's own images, captions of another machine, what the next
signing makes of it; and a swarm whose verifiers judge by what was measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import Processes
from tests.e2e.audited_swarm import AuditedSwarm
from tests.e2e.swarm_of_processes import ROOT, SHAPES, draw, finished, wait_for
from tests.e2e.test_audit import failed, passed

IMAGES = 200
CHEATS = {"other-image", "copied", "truncated", "random", "edited", "no-image", "model-1"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_is_calibrated_and_verifiers_judge_by_that(tmp_path: Path, processes: Processes) -> None:
    images, other = draw(tmp_path / "pictures", IMAGES, seed=41), tmp_path / "other"
    noise = (sys.executable, "-m", "benchmarks.noisy_model", str(SHAPES), str(other), "1.2", "1")
    subprocess.run(noise, check=True, cwd=ROOT)
    swarm = AuditedSwarm(processes, tmp_path, images, ["verifier"], calibrated=False)
    project = swarm.project
    assert "audited by nobody" in processes.run("project", "show", str(project))

    theirs = export_elsewhere(processes, project, tmp_path)
    wanted = ("--images", str(IMAGES), "--against", str(other), "--with", str(theirs), "--json")
    record = json.loads(processes.run("project", "calibrate", str(project), *wanted))
    kinds = {kind["name"]: kind for kind in record["kinds"]}
    assert kinds["honest"]["items"] == IMAGES, "half of those made here and elsewhere"
    assert kinds["honest"]["bad"] == 0
    assert kinds.keys() > CHEATS
    assert {name: kinds[name]["bad"] for name in CHEATS} == {name: kinds[name]["items"] for name in CHEATS}
    assert record["false_bans"] <= 1e-5

    processes.run("project", "sign", str(project))
    shown = processes.run("project", "show", str(project))
    assert f"audited by tokens: 0 of {IMAGES} honest items called bad" in shown
    assert f"a ban takes {record['bans_at']}" in shown

    swarm.serve()
    crowd = swarm.crowd(["ada", "cheat", "verifier"])
    wait_for(swarm.coordinator, lambda snapshot: failed(snapshot, "cheat") > 0, [crowd])
    wait_for(swarm.coordinator, finished, [crowd])
    # what is checked of the last captions becomes known when they are long counted
    seen = wait_for(swarm.coordinator, lambda snapshot: passed(snapshot, "ada") > 0, [crowd])
    assert (failed(seen, "ada"), failed(seen, "verifier")) == (0, 0)


def export_elsewhere(processes: Processes, project: Path, folder: Path) -> Path:
    """The captions of an engine with other settings, as somebody without the keys makes them."""
    copy, file = folder / "copy", folder / "other-machine.json"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("keys"))
    wanted = ("--images", str(IMAGES), "--batch", "8", "--export", str(file))
    processes.run("project", "calibrate", str(copy), *wanted)
    assert not (copy / "audit.yaml").exists()
    return file
