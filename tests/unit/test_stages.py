"""Stages of a project file: what each has, which needs which; one sentence and a line for what cannot be signed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.codec import decode, encode
from p2pcap.errors import ConfigError
from p2pcap.project.prompts import fill, places
from p2pcap.project.records import Stage
from p2pcap.project.task import Input, Prompt, Task
from p2pcap_bootstrap import config
from p2pcap_bootstrap.stages import make_stages
from tests.unit.tasks import LEAST

TOP = LEAST | {"images": {"source": "images", "fields": ["title", "alt text", "a.b"]}}
NOTE = {"name": "note", "prompts": [{"name": "objects", "text": "List it."}, {"name": "mood", "text": "Which mood?"}]}
JOIN = {"name": "join", "prompts": [{"name": "caption", "text": "Join {note.objects}.", "image": False}]}


def stages_of(base: Path, *stages: dict[str, Any], **keys: Any) -> dict[str, Stage]:
    text = yaml.safe_dump(TOP | {"stages": list(stages)} | keys, sort_keys=False)
    made = make_stages(config.parse(text, base / config.FILE), base)
    for stage in made:
        assert decode(encode(stage), Stage, 1 << 20) == stage
    return {stage.name: stage for stage in made}


def test_a_file_without_stages_has_one(tmp_path: Path) -> None:
    (stage,) = make_stages(config.parse(yaml.safe_dump(LEAST), tmp_path / config.FILE), tmp_path)
    assert (stage.name, stage.task.prompts, stage.task.needs) == ("main", (Prompt("caption", "What is it?"),), ())
    assert (stage.paused, stage.keeps) == (UNSET, UNSET)


def test_a_stage_has_what_it_leaves_out_from_the_project(tmp_path: Path) -> None:
    top = {"dtype": "bfloat16", "image_edge": 512, "sampling": {"max_tokens": 9, "top_k": 5}, "system": "Be brief."}
    own = {"name": "own", "dtype": "float32", "sampling": {"top_k": 7}, "system": "", "prompts": NOTE["prompts"]}
    stages = stages_of(tmp_path, {"name": "silent"}, own, **top)
    silent, task = stages["silent"].task, stages["own"].task
    assert [prompt.name for prompt in silent.prompts] == ["caption"]
    assert (silent.dtype, silent.image_edge, silent.system) == ("bfloat16", 512, "Be brief.")
    assert (task.dtype, task.image_edge, task.system) == ("float32", 512, "")
    assert (task.sampling.max_tokens, task.sampling.top_k) == (9, 7)


def test_what_belongs_to_a_model_stays_with_it(tmp_path: Path) -> None:
    top = {
        "quantization": "fp8",
        "remote_code": True,
        "image_processor": {"a": 1},
        "chat_template": "x",
        "dtype": "float16",
    }
    other = {"name": "other", "model": "owner/other", "revision": "cd" * 20}
    task = stages_of(tmp_path, other, {"name": "same"}, **top)["other"].task
    assert (task.model.name, task.model.revision, task.dtype) == ("owner/other", "cd" * 20, "float16")
    assert (task.quantization, task.remote_code, task.image_processor, task.chat_template) == ("", UNSET, UNSET, UNSET)


def test_the_order_of_work_is_the_file_s_and_ids_follow_what_is_needed(tmp_path: Path) -> None:
    stages = stages_of(tmp_path, JOIN, NOTE)
    assert list(stages) == ["join", "note"]
    assert stages["join"].task.needs == (Input("note", stages["note"].task.tid, ("objects",)),)
    changed = stages_of(tmp_path, JOIN, NOTE | {"system": "Be brief."})
    assert changed["join"].task.tid != stages["join"].task.tid


def test_a_stage_may_need_another_without_its_answers(tmp_path: Path) -> None:
    stages = stages_of(tmp_path, NOTE, {"name": "later", "requires": ["note"]})
    assert stages["later"].task.needs == (Input("note", stages["note"].task.tid, ("objects", "mood")),)


def test_places_are_filled_with_columns_and_answers(tmp_path: Path) -> None:
    text = "{title} {column:title} {column:alt text} {a.b} {note.mood} "
    text += "{{note.mood}} {{column:title}} {{column:x}} {two words}"
    join = {"name": "join", "prompts": [{"name": "caption", "text": text}]}
    task = stages_of(tmp_path, NOTE, join)["join"].task
    values = {"title": "T", "alt text": "A", "a.b": "B", "note.mood": "M"}
    filled = fill(task.prompts[0].text, places(task, 0), values)
    assert filled == "T T A B M {note.mood} {column:title} {column:x} {two words}"


@given(st.permutations(["a", "b", "c", "d"]))
def test_any_order_in_the_file_makes_the_same_tasks(tmp_path_factory: pytest.TempPathFactory, order: list[str]) -> None:
    texts = {"a": "x", "b": "{a.p}", "c": "{a.p} {b.p}", "d": "{c.p}"}
    stages = [{"name": name, "prompts": [{"name": "p", "text": texts[name]}]} for name in order]
    base = tmp_path_factory.getbasetemp()
    made = stages_of(base, *stages)
    known = stages_of(base, *sorted(stages, key=lambda stage: str(stage["name"])))
    assert {name: stage.task.tid for name, stage in made.items()} == {
        name: stage.task.tid for name, stage in known.items()
    }


def test_a_stage_s_format_is_that_of_its_prompts(tmp_path: Path) -> None:
    prompts = [{"name": "tags", "text": "x"}, {"name": "kind", "text": "y", "format": {"choice": ["a", "b"]}}]
    task = stages_of(tmp_path, {"name": "main", "format": {"list": 5}, "prompts": prompts})["main"].task
    assert [prompt.format and prompt.format.kind for prompt in task.prompts] == ["schema", "choice"]


def test_a_text_stage_needs_no_image(tmp_path: Path) -> None:
    task = stages_of(tmp_path, NOTE, JOIN)["join"].task
    assert not any(prompt.shows_image for prompt in task.prompts)


def asks(name: str, text: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "prompts": [{"name": "p", "text": text}], **keys}


FAULTS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str, int]] = {
    "a circle": (
        [asks("first", "{third.p}"), asks("second", "{first.p}"), asks("third", "x", requires=["second"])],
        {},
        "in a circle: first → third → second → first. Take out",
        2,
    ),
    "no such stage": (
        [NOTE, asks("b", "{not.p}")],
        {},
        "an answer of not, and there is no such stage; did you mean note?",
        11,
    ),
    "no such required stage": (
        [NOTE, asks("b", "x", requires=["nothing"])],
        {},
        "Stage b requires nothing, and there is no such stage; there are: note, b.",
        13,
    ),
    "no such prompt": ([NOTE, asks("b", "{note.moods}")], {}, "no such prompt; did you mean {note.mood}?", 11),
    "no prompt at all alike": ([NOTE, asks("b", "{note.zzzz}")], {}, "no such prompt; it has: objects, mood.", 11),
    "two of one name": ([NOTE, dict(NOTE)], {}, "Two stages are called note", 8),
    "its own stage": ([asks("b", "{b.p}")], {}, "of its own stage. Write {p}.", 5),
    "an unknown column": (
        [asks("b", "{column:titel}")],
        {},
        "{column:titel}, which is not in images.fields; did you mean {column:title}?",
        5,
    ),
    "a place that is nothing": ([asks("b", "{words}")], {}, "for the letters themselves write {{words}}", 5),
    "an answer and a field": (
        [NOTE, asks("b", "{note.mood}")],
        {"images": {"source": "images", "fields": ["note.mood"]}},
        "which is a field of the images and a prompt before it",
        11,
    ),
    "no model": ([asks("b", "x")], {"model": None}, "missing required field `model`", 2),
    "no prompts": ([{"name": "b"}], {"prompts": None}, "missing required field `prompts`: stage b has none", 2),
    "a misspelt key": ([asks("b", "x", require=["a"])], {}, "did you mean `requires`?", 6),
    "a bad name": ([asks("B c", "x")], {}, "a name is 1 to 32 small letters", 2),
}


@pytest.mark.parametrize(("stages", "keys", "says", "line"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_sentence_and_line(
    tmp_path: Path, stages: list[dict[str, Any]], keys: dict[str, Any], says: str, line: int
) -> None:
    rest = {key: value for key, value in (TOP | keys).items() if value is not None}
    text = yaml.safe_dump({"stages": stages}, sort_keys=False) + yaml.safe_dump(rest, sort_keys=False)
    with pytest.raises(ConfigError) as caught:
        config.parse(text, tmp_path / config.FILE)
    assert says in str(caught.value)
    assert f"project.yaml, line {line}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_stages_that_are_the_same_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Stages a and b ask the same of the same model"):
        stages_of(tmp_path, {"name": "a"}, {"name": "b"})


def test_a_fault_of_a_task_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^Stage b: Prompt caption has min_tokens 9"):
        stages_of(tmp_path, NOTE, {"name": "b", "sampling": {"min_tokens": 9, "max_tokens": 5}})


def test_a_stage_needs_not_too_many(tmp_path: Path) -> None:
    others = [asks(f"s{number}", f"{number}") for number in range(9)]
    with pytest.raises(ConfigError, match="Stage last needs 9 others"):
        stages_of(tmp_path, *others, {"name": "last", "requires": [f"s{number}" for number in range(9)]})


def test_the_tasks_of_old_files_keep_their_ids(tmp_path: Path) -> None:
    (stage,) = make_stages(config.parse(yaml.safe_dump(LEAST), tmp_path / config.FILE), tmp_path)
    assert stage.task == Task(stage.task.model, (Prompt("caption", "What is it?"),))


def test_the_order_of_what_is_required_makes_no_other_task(tmp_path: Path) -> None:
    others = [asks("a", "x"), asks("b", "y")]
    one, other = (
        stages_of(tmp_path, *others, {"name": "last", "requires": list(names)})["last"].task.tid
        for names in ("ab", "ba")
    )
    assert one == other
