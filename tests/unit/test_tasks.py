"""From project.yaml to the task that is signed: what each key becomes, and one sentence for what makes no sense."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.errors import ConfigError, ModelError
from p2pcap.project.prompts import fill, places, uses
from p2pcap.project.sampling import Bias, OutputPolicy, Sampling
from p2pcap.project.task import Prompt, Task
from p2pcap_bootstrap import checking
from p2pcap_bootstrap.checking import notes
from p2pcap_bootstrap.sections import DEFAULTS
from tests.unit.coordinator import write_model
from tests.unit.tasks import ASK, prompt_of, task_of

# what each key becomes


def test_the_task_says_what_the_file_says(tmp_path: Path) -> None:
    sampling = {"max_tokens": 64, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.05, "seed": 9}
    task = task_of(
        tmp_path,
        prompts=[ASK, {"name": "mood", "text": "Name its mood."}],
        sampling=sampling | {"stop": ["END"]},
        dtype="bfloat16",
        quantization="fp8",
        system="Be brief.",
        image_edge=512,
        max_model_len=4_096,
    )
    assert (task.model.name, task.model.revision, task.model.files) == ("owner/model", "ab" * 20, ())
    assert task.prompts == (Prompt("caption", "What is it?"), Prompt("mood", "Name its mood."))
    assert task.sampling == Sampling(64, 700, 900, 1_050, 9, ("END",))
    assert (task.dtype, task.quantization, task.system) == ("bfloat16", "fp8", "Be brief.")
    assert (task.image_edge, task.max_model_len) == (512, 4_096)


def test_the_rest_of_sampling_is_vllm_s(tmp_path: Path) -> None:
    task = task_of(
        tmp_path,
        sampling={
            "top_k": 40,
            "min_p": 0.05,
            "presence_penalty": -0.5,
            "frequency_penalty": 2,
            "min_tokens": 3,
            "stop_token_ids": [7],
            "bad_words": ["image"],
            "allowed_token_ids": [7, 8],
            "logit_bias": {8: -5, 7: 1.5},
            "ignore_eos": True,
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
        },
    )
    assert task.sampling == Sampling(
        top_k=40,
        min_p=50,
        presence_penalty=-500,
        frequency_penalty=2_000,
        min_tokens=3,
        stop_token_ids=(7,),
        bad_words=("image",),
        allowed_token_ids=(7, 8),
        logit_bias=(Bias(7, 1_500), Bias(8, -5_000)),
        ignore_eos=True,
        include_stop_str_in_output=True,
        skip_special_tokens=False,
    )


def test_a_default_that_is_said_changes_no_id(tmp_path: Path) -> None:
    silent = task_of(tmp_path)
    defaults = yaml.safe_load(msgspec.yaml.encode(DEFAULTS))
    said = task_of(
        tmp_path,
        prompts=[ASK | {"image": True, "sampling": defaults, "format": {"json": False}}],
        sampling=defaults,
        output={"cut": [], "refusals": [], "loops": False, "least": 1, "whole": False},
        chat_template="",
        image_processor={},
        remote_code=False,
        engines=[],
    )
    assert said.tid == silent.tid
    assert silent == Task(silent.model, (Prompt("caption", "What is it?"),))


def test_a_prompt_s_sampling_is_the_task_s_but_for_what_it_says(tmp_path: Path) -> None:
    prompts = [
        ASK,
        ASK | {"name": "brief", "sampling": {"max_tokens": 8, "top_k": 0}},
        ASK | {"name": "same", "sampling": {"top_k": 40}},
        ASK | {"name": "mute", "system": ""},
    ]
    task = task_of(tmp_path, prompts=prompts, sampling={"temperature": 0.5, "top_k": 40}, system="Be kind.")
    assert task.sampling == Sampling(temperature=500, top_k=40)
    assert task.prompts[1].sampling == Sampling(max_tokens=8, temperature=500)
    assert [prompt.sampling for prompt in task.prompts[2:]] == [UNSET, UNSET]
    assert [task.system_of(prompt) for prompt in task.prompts] == ["Be kind."] * 3 + [""]


def test_what_is_no_answer_is_in_the_task(tmp_path: Path) -> None:
    policy = {"cut": ["<|end|>"], "refusals": ["I cannot"], "loops": True, "least": 5, "whole": True}
    assert task_of(tmp_path, output=policy).output == OutputPolicy(("<|end|>",), ("I cannot",), True, 5, True)


def test_engines_are_named_in_one_order_each_once(tmp_path: Path) -> None:
    assert task_of(tmp_path, engines=["openai", "vllm", "openai"]).engines == ("vllm", "openai")
    assert task_of(tmp_path, engines=["openai"]).engines == ("openai",)


def test_the_image_processor_s_arguments_are_json_in_one_order(tmp_path: Path) -> None:
    arguments = {"min_pixels": 5, "max_pixels": 9, "size": {"longest_edge": 512}}
    one, other = (
        task_of(tmp_path, image_processor=dict(pairs)) for pairs in (arguments.items(), [*arguments.items()][::-1])
    )
    assert one.image_processor == '{"max_pixels":9,"min_pixels":5,"size":{"longest_edge":512}}'
    assert one.tid == other.tid


TEMPLATE = "{% for m in messages %}{% generation %}{{ m.content }}{%- endgeneration -%}{% break %}{% endfor %}"


def test_a_chat_template_is_a_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(TEMPLATE, encoding="utf-8")
    assert task_of(tmp_path, chat_template=TEMPLATE).chat_template == TEMPLATE
    assert task_of(tmp_path, chat_template="own.jinja").chat_template == TEMPLATE


def test_code_of_the_model_s_own_is_said(tmp_path: Path) -> None:
    assert task_of(tmp_path, remote_code=True).remote_code is True


# stages

PICTURES = {"source": "images", "fields": ["title", "year", "unused"]}
NOTES = {"name": "notes", "text": "Note what you see."}


def test_a_stage_uses_fields_and_answers_before_it(tmp_path: Path) -> None:
    last = {"name": "last", "text": "Join {notes} and {caption}.", "system": "It is {title}.", "image": False}
    task = task_of(tmp_path, images=PICTURES, prompts=[NOTES, ASK, last])
    assert task.fields == ("title",)
    assert [uses(task, number) for number in range(3)] == [(), (), (0, 1)]
    assert [prompt.shows_image for prompt in task.prompts] == [True, True, False]


def test_a_prompt_of_a_field_s_name_may_ask_for_the_field(tmp_path: Path) -> None:
    images = {"source": "images", "fields": ["caption"]}
    task = task_of(tmp_path, images=images, prompts=[ASK | {"text": "Improve: {caption}"}, NOTES])
    assert (task.fields, uses(task, 0)) == (("caption",), ())


@given(st.sampled_from(["notes", "title", "caption", "later", "nothing", "unused"]))
def test_double_braces_are_letters_whatever_they_name(tmp_path_factory: pytest.TempPathFactory, word: str) -> None:
    prompts = [
        NOTES | {"text": "See {title}. {{" + word + "}}"},
        ASK | {"text": "{notes} {{" + word + "}}"},
        {"name": "later", "text": "x"},
    ]
    task = task_of(tmp_path_factory.getbasetemp(), images=PICTURES, prompts=prompts)
    values = dict.fromkeys(("notes", "title", "caption", "later", "nothing", "unused"), "VALUE")
    assert fill(task.prompts[0].text, places(task, 0), values) == "See VALUE. {" + word + "}"
    assert fill(task.prompts[1].text, places(task, 1), values) == "VALUE {" + word + "}"


def test_other_braces_are_text(tmp_path: Path) -> None:
    text = 'As {"objects": [], "mood": ""}, {} or {two words}.'
    assert prompt_of(tmp_path, text=text).text == text


# what cannot be signed

LATER = {"name": "later", "text": "x"}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "two prompts of one name": ({"prompts": [ASK, ASK]}, "have the same name"),
    "answers beyond a body": (
        {"prompts": [ASK | {"name": f"p{n}"} for n in range(9)], "sampling": {"max_tokens": 8_192}},
        "over 65536. Lower sampling.max_tokens",
    ),
    "answers of one prompt beyond a body": (
        {"prompts": [ASK | {"name": f"p{n}", "sampling": {"max_tokens": 8_192}} for n in range(9)]},
        "over 65536",
    ),
    "longer than longest": ({"sampling": {"max_tokens": 5, "min_tokens": 6}}, "min_tokens 6 above its max_tokens 5"),
    "longer than longest in a prompt": (
        {"sampling": {"min_tokens": 6}, "prompts": [ASK, NOTES | {"sampling": {"max_tokens": 5}}]},
        "Prompt notes has min_tokens 6",
    ),
    "an end that is not allowed": (
        {"sampling": {"stop_token_ids": [5, 9], "allowed_token_ids": [5]}},
        "ends at token 9, which its allowed_token_ids leave out",
    ),
    "only texts": (
        {"images": PICTURES, "prompts": [ASK | {"text": "{title}", "image": False}]},
        "No prompt shows the model the image",
    ),
    "a text prompt that uses nothing": (
        {"prompts": [ASK, NOTES | {"image": False}]},
        "Prompt notes is the same for every image",
    ),
    "its own answer": ({"prompts": [ASK | {"text": "{caption}"}]}, "Prompt caption has a place for {caption}, whose"),
    "a later answer": ({"prompts": [ASK | {"text": "{later}"}, LATER]}, "Put that prompt before it"),
    "a later answer in a system text": (
        {"prompts": [ASK | {"system": "{later}"}, LATER]},
        "The system text of prompt caption has a place for {later}",
    ),
    "an answer in the project's system text": (
        {"system": "{caption}", "prompts": [ASK, LATER]},
        "The project's system text has a place for {caption}",
    ),
    "an unknown name": ({"prompts": [ASK | {"text": "{words}"}]}, "for the letters themselves write {{words}}"),
    "nearly a field": ({"images": PICTURES, "prompts": [ASK | {"text": "{titel}"}]}, "did you mean {title}?"),
    "nearly a prompt": ({"prompts": [NOTES, ASK | {"text": "{note}"}]}, "did you mean {notes}?"),
    "a prompt and a field": (
        {"images": {"source": "images", "fields": ["notes"]}, "prompts": [NOTES, ASK | {"text": "{notes}"}]},
        "which is a field of the images and a prompt before it",
    ),
    "no template": ({"chat_template": "{% for %}"}, "no Jinja template: line 1"),
    "no template file": ({"chat_template": "no.jinja"}, "which cannot be read"),
    "a template at no path": ({"chat_template": "a\0.jinja"}, "which cannot be read"),
    "a template of nobody's": ({"chat_template": "~nobody.here/x.jinja"}, "which cannot be read"),
    "half of a character": (
        {"prompts": [ASK, NOTES | {"text": "\ud83d"}]},
        "prompts[1].text in project.yaml holds half of a character",
    ),
    "two halves": ({"sampling": {"stop": ["\ud83d\ude00"]}}, "sampling.stop[0] in project.yaml holds half"),
    "a template too long": ({"chat_template": "x" * 65_537}, "over 65536 characters"),
    "an argument that JSON lacks": ({"image_processor": {"a": float("inf")}}, "what JSON cannot say"),
}


@pytest.mark.parametrize(("keys", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_sentence(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task_of(tmp_path, **keys)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["~nobody.here/model", "a\0b"])
def test_a_model_at_no_path_is_one_clear_error(tmp_path: Path, model: str) -> None:
    with pytest.raises(ModelError, match="neither a model directory nor a name on the Hub"):
        task_of(tmp_path, model=model)


def test_code_is_not_handed_round(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    with pytest.raises(ConfigError, match="remote_code needs a model on the Hub"):
        task_of(tmp_path, model="model", remote_code=True)


# what a maintainer should know


def test_a_plain_task_has_no_notes(tmp_path: Path) -> None:
    assert list(notes(task_of(tmp_path))) == []
    harmless = {"stop": ["END"], "max_tokens": 9, "skip_special_tokens": False, "seed": 5, "top_k": 5, "top_p": 0.5}
    assert list(notes(task_of(tmp_path, sampling=harmless, output={"loops": True}))) == []


SHIFTING = [
    ("temperature", 0.5),
    ("repetition_penalty", 1.1),
    ("presence_penalty", 0.1),
    ("frequency_penalty", 0.1),
    ("min_tokens", 1),
    ("bad_words", ["a"]),
    ("allowed_token_ids", [1]),
    ("logit_bias", {1: 1}),
]


@pytest.mark.parametrize(("name", "value"), SHIFTING)
def test_what_cannot_be_checked_by_scoring_is_said(tmp_path: Path, name: str, value: Any) -> None:
    (said,) = notes(task_of(tmp_path, prompts=[ASK, LATER | {"sampling": {name: value}}]))
    assert said.startswith(f"captions made so cannot be checked by scoring: later ({name}")


def test_a_format_cannot_be_checked_by_scoring(tmp_path: Path) -> None:
    (said,) = notes(task_of(tmp_path, sampling={"min_tokens": 1}, prompts=[ASK | {"format": {"json": True}}, LATER]))
    assert said.endswith(": caption (min_tokens, format); later (min_tokens)")


def test_what_servers_need_not_follow_is_said(tmp_path: Path) -> None:
    keys = {"chat_template": TEMPLATE, "quantization": "fp8", "image_processor": {"a": 1}}
    (said,) = notes(task_of(tmp_path, **keys))
    assert "chat_template, image_processor, quantization" in said
    assert list(notes(task_of(tmp_path, engines=["vllm"], **keys))) == []


def test_without_jinja_a_template_is_not_checked_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    task = task_of(tmp_path, chat_template="{% for %}", engines=["vllm"])
    assert list(notes(task)) == ["chat_template was not checked: jinja2 is not installed here"]
