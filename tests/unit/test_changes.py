"""What a signing changes, in words, and what a pause changes: that alone."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.records import FetchRules, Plan, Policy, Stage
from p2pcap.project.task import ModelFile
from p2pcap_bootstrap import config
from p2pcap_bootstrap.changes import changes
from p2pcap_bootstrap.pausing import unlike_file, with_pause
from p2pcap_bootstrap.stages import make_stages, stage_notes
from tests.unit.tasks import LEAST

CHUNK = Chunk(64, bytes(32), 100)
FIRST = {"name": "first", "prompts": [{"name": "caption", "text": "What is it?"}]}
SECOND = {"name": "second", "prompts": [{"name": "mood", "text": "Which mood? {first.caption}"}]}


def stages_of(*stages: dict[str, Any], **keys: Any) -> tuple[Stage, ...]:
    text = yaml.safe_dump(LEAST | {"stages": list(stages)} | keys, sort_keys=False)
    return make_stages(config.parse(text, Path(config.FILE)), Path())


def plan_of(*stages: dict[str, Any], **fields: Any) -> Plan:
    return Plan("cats", stages_of(*(stages or (FIRST,))), table_of([CHUNK]), **fields)


def said(before: Plan, after: Plan) -> list[str]:
    return list(changes(before, after))


def with_prompt(**keys: Any) -> dict[str, Any]:
    return FIRST | {"prompts": [{"name": "caption", "text": "What is it?"} | keys]}


ANEW = "stage first: another task; all images are asked about anew"

CASES: dict[str, tuple[Plan, Plan, list[str]]] = {
    "nothing": (plan_of(), plan_of(), []),
    "a text": (
        plan_of(),
        plan_of(with_prompt(text="And that?")),
        [ANEW, "stage first, prompt caption, text: What is it? → And that?"],
    ),
    "a prompt more": (
        plan_of(),
        plan_of(FIRST | {"prompts": [*FIRST["prompts"], {"name": "mood", "text": "Its mood?"}]}),
        [ANEW, "stage first, prompt mood: new: Its mood?"],
    ),
    "sampling": (
        plan_of(),
        plan_of(FIRST | {"sampling": {"max_tokens": 9}}),
        [ANEW, "stage first, sampling.max_tokens: 256 → 9"],
    ),
    "a model": (
        plan_of(),
        plan_of(FIRST | {"model": "owner/other", "revision": "cd" * 20}),
        [
            ANEW,
            "stage first, model.name: owner/model → owner/other",
            f"stage first, model.revision: {'ab' * 20} → {'cd' * 20}",
        ],
    ),
    "another stage": (plan_of(), plan_of(FIRST, SECOND), ["stage second: new; all images are asked about it"]),
    "one stage less": (plan_of(FIRST, SECOND), plan_of(FIRST), ["stage second: goes; its captions stay"]),
    "another name": (plan_of(), plan_of(FIRST | {"name": "other"}), ["stage first: is called other"]),
    "another order": (
        plan_of(FIRST, SECOND),
        plan_of(SECOND, FIRST),
        ["stages: worked on in the order second, first"],
    ),
    "what another stage needs": (
        plan_of(FIRST, SECOND),
        plan_of(with_prompt(text="And that?"), SECOND),
        [
            ANEW,
            "stage first, prompt caption, text: What is it? → And that?",
            "stage second: another task; all images are asked about anew",
            "stage second, stage first, which it needs, has another task",
        ],
    ),
    "images": (
        plan_of(),
        msgspec.structs.replace(plan_of(), chunks=table_of([CHUNK, Chunk(5, bytes(32), 1), Chunk(6, bytes(32), 1)])),
        ["images: 11 new ones in 2 chunks"],
    ),
    "all images": (
        plan_of(),
        msgspec.structs.replace(plan_of(), chunks=table_of([Chunk(5, bytes(32), 1)])),
        ["images: all chunks are made anew; nobody has seen the others"],
    ),
    "policy": (plan_of(), plan_of(policy=Policy(attempts=5)), ["policy.attempts: 3 → 5"]),
    "rules": (plan_of(fetch=FetchRules()), plan_of(fetch=FetchRules(robots=False)), ["fetch.robots: True → False"]),
    "a deadline": (plan_of(), plan_of(deadline=1_000_000_000), ["deadline: none → 2001-09-09 01:46 UTC"]),
    "a pause": (plan_of(), plan_of(paused=True), ["project: paused"]),
    "its end": (plan_of(paused=True), plan_of(), ["project: goes on"]),
}


@pytest.mark.parametrize(("before", "after", "lines"), CASES.values(), ids=CASES.keys())
def test_each_change_has_its_words(before: Plan, after: Plan, lines: list[str]) -> None:
    assert said(before, after) == lines


def test_captions_that_are_kept_are_said() -> None:
    before, after = plan_of(), plan_of(with_prompt(text="And that?"))
    kept = msgspec.structs.replace(after.stages[0], keeps=(before.stages[0].task.tid,))
    lines = said(before, msgspec.structs.replace(after, stages=(kept,)))
    assert lines[0] == "stage first: another task; images with a caption keep it"


def test_of_a_model_s_files_those_that_differ_are_named() -> None:
    files = [ModelFile(name, bytes([number]) * 32, 9) for number, name in enumerate(("a.json", "b.json", "c.json"))]

    def plan(*files: ModelFile) -> Plan:
        (stage,) = plan_of().stages
        task = msgspec.structs.replace(stage.task, model=msgspec.structs.replace(stage.task.model, files=files))
        return msgspec.structs.replace(plan_of(), stages=(msgspec.structs.replace(stage, task=task),))

    other = msgspec.structs.replace(files[1], hash=bytes(32))
    assert said(plan(*files), plan(files[0], other)) == [ANEW, "stage first, model.files: b.json, c.json"]


@given(st.integers(0, 900), st.text("ab ", min_size=1, max_size=5))
def test_of_long_texts_the_place_where_they_part_is_shown(at: int, put: str) -> None:
    text = "one two three four five " * 40
    lines = said(plan_of(with_prompt(text=text)), plan_of(with_prompt(text=text[:at] + put + text[at:])))
    assert len(lines) == 2
    assert len(lines[1]) < 600


def test_each_field_of_the_records_is_told() -> None:
    """A field that comes later is said by its name, and none is forgotten."""
    for field in (
        "title",
        "description",
        "license",
        "fetch",
        "policy",
        "paused",
        "deadline",
        "verifiers",
        "stages",
        "chunks",
    ):
        assert field in Plan.__struct_fields__
    assert set(Plan.__struct_fields__) == {
        *("title", "description", "license", "fetch", "policy", "paused", "deadline", "verifiers", "stages", "chunks"),
        "former",  # follows from the stages
    }


# pausing


def test_a_pause_changes_nothing_else() -> None:
    plan = plan_of(FIRST, SECOND)
    paused = with_pause(plan, None, True)
    assert paused == msgspec.structs.replace(plan, paused=True)
    assert with_pause(paused, None, False) == plan
    one = with_pause(plan, "second", True)
    assert [stage.paused for stage in one.stages] == [UNSET, True]
    assert said(plan, one) == ["stage second: paused"]
    assert with_pause(one, "second", False) == plan


@pytest.mark.parametrize(
    ("stage", "paused", "says"),
    [
        (None, False, "The project is not paused. Nothing was signed."),
        ("first", False, "Stage first is not paused"),
        ("secont", True, "There is no stage secont; did you mean second?"),
        ("x", True, "There is no stage x; there are: first, second."),
    ],
)
def test_a_pause_that_changes_nothing_is_refused(stage: str | None, paused: bool, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_pause(plan_of(FIRST, SECOND), stage, paused)
    assert says in str(caught.value)


def test_a_file_that_says_otherwise_is_told(tmp_path: Path) -> None:
    def file_of(**keys: Any) -> config.ProjectFile:
        return config.parse(yaml.safe_dump(LEAST | {"stages": [FIRST, SECOND | {"paused": True}]} | keys), tmp_path)

    assert not unlike_file(file_of(), None, True)
    assert unlike_file(file_of(paused=False), None, True)
    assert not unlike_file(file_of(paused=True), None, True)
    assert unlike_file(file_of(), "second", False)
    assert not unlike_file(file_of(), "first", True)


def test_what_hangs_on_another_stage_is_noted() -> None:
    first, second = stages_of(FIRST, SECOND)
    assert list(stage_notes((first, second))) == []
    paused = msgspec.structs.replace(first, paused=True)
    assert list(stage_notes((paused, second))) == ["stage second waits for first, which is paused"]
    assert list(stage_notes((paused, msgspec.structs.replace(second, paused=True)))) == []
    keeping = msgspec.structs.replace(first, keeps=(bytes(8),))
    (note,) = stage_notes((keeping, second))
    assert note.startswith("stage second gets no answers of first where that keeps")
