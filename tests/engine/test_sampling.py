"""A task's sampling in vLLM's words. That vLLM takes them is in test_captioner.py."""

import pytest

from p2pcap.engine.sampling import arguments, seed, structured
from p2pcap.project.sampling import Bias, Format, Sampling

FULL = Sampling(
    max_tokens=9,
    temperature=700,
    top_p=900,
    repetition_penalty=1_100,
    seed=7,
    stop=("\n", "END"),
    top_k=40,
    min_p=50,
    presence_penalty=-500,
    frequency_penalty=250,
    min_tokens=2,
    stop_token_ids=(3, 4),
    bad_words=("cat",),
    allowed_token_ids=(5, 6),
    logit_bias=(Bias(5, -1_500), Bias(6, 100)),
    ignore_eos=True,
    include_stop_str_in_output=True,
    skip_special_tokens=False,
)


def test_every_field_comes_in_vllm_s_unit() -> None:
    assert arguments(FULL) == {
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "stop": ["\n", "END"],
        "top_k": 40,
        "min_p": 0.05,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.25,
        "min_tokens": 2,
        "stop_token_ids": [3, 4],
        "bad_words": ["cat"],
        "allowed_token_ids": [5, 6],
        "logit_bias": {5: -1.5, 6: 0.1},
        "ignore_eos": True,
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
    }
    assert set(arguments(FULL)) == set(Sampling.__struct_fields__) - {"seed"}


def test_what_a_task_leaves_out_is_left_to_vllm() -> None:
    expected = {"max_tokens": 256, "temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0, "stop": []}
    assert arguments(Sampling()) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Format("json"), {"json_object": True}),
        (Format("schema", '{"type": "array"}'), {"json": '{"type": "array"}'}),
        (Format("regex", "a+"), {"regex": "a+"}),
        (Format("choice", choices=("a", "b")), {"choice": ["a", "b"]}),
    ],
)
def test_every_format_has_its_argument(form: Format, expected: dict[str, object]) -> None:
    assert structured(form) == expected


def test_a_seed_follows_from_all_that_is_asked_and_nothing_else() -> None:
    tid, other, image, another = bytes(8), b"1" * 8, bytes(32), b"1" * 32
    seeds = [seed(tid, image, 0), seed(other, image, 0), seed(tid, another, 0), seed(tid, image, 1)]
    seeds.append(seed(tid, image, 0, attempt=1))
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= one < 2**63 for one in seeds)
    assert seed(tid, image, 0) == 1039428648513059753, "captions of earlier versions have it"
