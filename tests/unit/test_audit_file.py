"""What a calibration measured reaches the signed plan, and only for the task that it was measured with."""

from pathlib import Path

import pytest
import trio
from msgspec import UNSET
from msgspec.structs import replace

from p2pcap.errors import ConfigError, UntrustedError
from p2pcap.project.audit import Audit, Bound, Cheat, Honest, Limits
from p2pcap.project.records import Stage
from p2pcap_bootstrap import audit_file
from p2pcap_bootstrap.changes import changes
from p2pcap_bootstrap.sampled_images import sample
from p2pcap_bootstrap.summary import summary
from tests.makers import TASK, make_project, signed
from tests.unit.coordinator import file_of, sign_again, signed_project

BOUND = Bound(100, 1_000, 800)
AUDIT = Audit(
    "tokens",
    Honest(500, 0, 2),
    (Cheat("edited", 500, 499),),
    20,
    (Limits(2_000, BOUND, BOUND, BOUND),),
    UNSET,
    (b"classone", b"classtwo"),
)


def test_a_calibration_is_taken_for_its_stage(tmp_path: Path) -> None:
    stages = (Stage("main", TASK), Stage("tags", replace(TASK, system="Tags only.")))
    assert audit_file.audited(stages, tmp_path) == stages
    audit_file.write(tmp_path, "main", TASK.tid, AUDIT)
    audit_file.write(tmp_path, "tags", bytes(8), replace(AUDIT, classes=UNSET))
    main, tags = audit_file.audited(stages, tmp_path)
    assert main.audit == AUDIT
    assert tags.audit is UNSET, "the stage has another task by now"
    (note,) = audit_file.audit_notes((main, tags), tmp_path)
    assert "tags was calibrated as another task" in note


@pytest.mark.parametrize(
    "text", ["[]", "main: 1", "main: {task: 1, audit: {}}", "main: {task: TID, audit: {bans_at: 0}}"]
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / audit_file.FILE).write_text(text.replace("TID", TASK.tid.hex()))
    with pytest.raises(ConfigError, match=r"audit\.yaml is damaged"):
        audit_file.audited((Stage("main", TASK),), tmp_path)


def test_the_next_signing_takes_it_and_says_so(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    (stage,) = workspace.project().stages
    assert any("audited by nobody" in line for line in summary(workspace.project(), 0))
    before = workspace.project().plan
    audit_file.write(workspace.directory, stage.name, stage.task.tid, AUDIT)
    sign_again(workspace)
    (again,) = workspace.project().stages
    assert again.audit == AUDIT
    assert again.task == stage.task
    assert "stage main: calibrated" in list(changes(before, workspace.project().plan))
    assert any("edited 499 of 500; a ban takes 20" in line for line in summary(workspace.project(), 0))


def test_limits_for_other_prompts_make_no_plan() -> None:
    project = make_project().project
    stage = replace(project.stages[0], audit=replace(AUDIT, limits=(AUDIT.limits or ()) * 2))
    with pytest.raises(UntrustedError, match="calibrated for other prompts"):
        signed(replace(project.plan, stages=(stage,)))
    stage = replace(stage, audit=replace(AUDIT, method="agreement"))
    with pytest.raises(UntrustedError, match="calibrated for other prompts"):
        signed(replace(project.plan, stages=(stage,)))


def test_a_sample_is_the_same_everywhere_and_of_the_signed_images(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    file, project = file_of(workspace), workspace.project()

    def drawn(tid: bytes, count: int) -> list[bytes]:
        return [shown.data for shown in trio.run(sample, workspace, file, project, tid, count)]

    first = drawn(bytes(8), 3)
    assert len(first) == 3
    assert first == drawn(bytes(8), 3)
    assert len(set(drawn(bytes(8), 1_000))) == project.images
