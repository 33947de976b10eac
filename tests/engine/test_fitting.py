"""Which GPUs run engines for a model, on machines that nobody has at hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.engine.fitting import OVERHEAD, SIZES, SPARE, Fitting, Group, Need, cpu_cache, fit, fit_cpu, need, room
from p2pcap.engine.gpus import Gpu
from p2pcap.engine.weights import Tensor, read_weights
from p2pcap.errors import EngineStartError
from p2pcap.project.task import Model, Prompt, Task

SHAPES = Path(__file__).parents[2] / "models" / "shapes"
GB = 10**9


def task(**fields: Any) -> Task:
    return Task(Model("tiny"), (Prompt("describe", "Describe."),), **fields)


def gpu(index: int, total: float = 24, free: float | None = None, name: str = "RTX") -> Gpu:
    return Gpu(index=index, name=name, total=int(total * GB), free=int((total - 0.3 if free is None else free) * GB))


def model(gigabytes: float, **fields: Any) -> Need:
    return Need(model="big", weights=gigabytes * GB, **fields)


# what a model needs


def test_the_shipped_model_s_need() -> None:
    config = json.loads((SHAPES / "config.json").read_bytes())
    tensors = read_weights(SHAPES)
    found = need(task(dtype="float32"), config, tensors)
    assert found == Need(model="tiny", weights=3_287_552, context=4 * 512 * 2 * 2 * 2 * 32, heads=(4, 4), kv_heads=2)
    assert need(task(), config, tensors).weights == found.weights / 2, "vLLM takes 16 bits where the task leaves it"
    assert need(task(max_model_len=128), config, tensors).context == found.context / 8


@pytest.mark.parametrize(
    ("tensor", "quantization", "size"),
    [
        (Tensor("BF16", (10, 10), (0, 200)), "", 200),
        (Tensor("F32", (10, 10), (0, 400)), "", 200),
        (Tensor("F8_E4M3", (10, 10), (0, 100)), "", 100),
        (Tensor("I32", (10, 10), (0, 400)), "awq", 400),
        (Tensor("BF16", (10, 10), (0, 200)), "fp8", 100),
        (Tensor("BF16", (10, 10), (0, 200)), "bitsandbytes", 50),
        (Tensor("BF16", (10,), (0, 20)), "bitsandbytes", 20),
    ],
)
def test_weights_as_they_are_loaded(tensor: Tensor, quantization: str, size: int) -> None:
    assert need(task(quantization=quantization), {}, [tensor]).weights == size


TEXT = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512}


@pytest.mark.parametrize(
    ("more", "numbers"),
    [
        ({}, 4 * 2 * 2 * 64 * 1000),
        ({"head_dim": 128}, 4 * 2 * 2 * 128 * 1000),
        ({"num_key_value_heads": None}, 4 * 2 * 8 * 64 * 1000),
        ({"sliding_window": 100}, 4 * 2 * 2 * 64 * 100),
        ({"sliding_window": 100, "use_sliding_window": False}, 4 * 2 * 2 * 64 * 1000),
        ({"sliding_window": None}, 4 * 2 * 2 * 64 * 1000),
        (
            {"sliding_window": 100, "layer_types": ["full_attention", "sliding_attention", "linear_attention"]},
            2 * 2 * 64 * 1100,
        ),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 4 * 576 * 1000),
        ({"num_hidden_layers": "4"}, 0),
        ({"num_attention_heads": 0}, 0),
        ({"num_hidden_layers": 10**400}, 0),
    ],
)
def test_keys_and_values_of_one_long_answer(more: dict[str, Any], numbers: int) -> None:
    config = {"text_config": {**TEXT, **more}}
    assert need(task(max_model_len=1000), config, []).context == 2 * numbers


values = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none() | st.text(max_size=5), max_size=3)


@given(st.dictionaries(st.sampled_from([*TEXT, "layer_types", "sliding_window", "kv_lora_rank", "head_dim"]), values))
def test_a_config_may_say_anything(config: dict[str, Any]) -> None:
    found = need(task(), {"text_config": config, "vision_config": config}, [])
    assert found.context >= 0
    assert found.divides(1)


# groups


def test_a_model_that_fits_one_gpu_runs_on_each() -> None:
    found = fit(model(16), [gpu(0), gpu(1), gpu(2)], 0.9)
    assert found == Fitting((Group((0,), 0.9), Group((1,), 0.9), Group((2,), 0.9)))


def test_a_model_that_needs_two_gets_pairs_and_says_who_is_left() -> None:
    found = fit(model(30), [gpu(index) for index in range(5)], 0.9)
    assert [group.gpus for group in found.groups] == [(0, 1), (2, 3)]
    (notice,) = found.notices
    assert "GPU 4" in notice
    assert notice.endswith("the model needs 31.0 GB on one GPU, or 16.0 GB on each of 2 of a kind.")


def test_unlike_gpus_are_never_together() -> None:
    mixed = [gpu(0), gpu(1, name="A5000"), gpu(2), gpu(3, total=48)]
    found = fit(model(30), mixed, 0.9)
    assert [group.gpus for group in found.groups] == [(0, 2), (3,)]
    assert "GPU 1" in found.notices[0]


def test_heads_must_divide() -> None:
    eight = [gpu(index) for index in range(8)]
    assert fit(model(30, heads=(14, 16)), eight, 0.9).groups[0].gpus == (0, 1)
    with pytest.raises(EngineStartError, match=r"on each of 2 GPUs"):
        fit(model(60, heads=(14, 16)), eight, 0.9)
    assert len(fit(model(60, heads=(28, 16), kv_heads=4), eight, 0.9).groups[0].gpus) == 4


def test_what_others_use_is_left_to_them() -> None:
    found = fit(model(10), [gpu(0), gpu(1, free=13), gpu(2, free=4)], 0.9)
    assert found.groups == (Group((0,), 0.9), Group((1,), 0.529))
    part, idle = found.notices
    assert part == "GPU 1 (RTX): 0.53 of its memory is used instead of 0.90; others have 11.0 GB."
    assert idle == (
        "GPU 2 (RTX) is left idle: it has 3.7 GB to give, and the model needs 11.0 GB on one GPU, or 3.5 GB on each of "
        "4 of a kind."
    )


def test_one_that_does_not_fit_is_one_sentence_with_the_numbers_and_what_to_do() -> None:
    with pytest.raises(EngineStartError) as error:
        fit(model(17), [gpu(0, total=8), gpu(1, total=12.9)], 0.9)
    assert str(error.value) == (
        "The model big needs about 18.0 GB of GPU memory, 9.5 GB on each of 2 GPUs of one kind; GPU 1 (RTX), the one "
        "with most room, has 11.6 GB to give of 12.9 GB. End other programs on it, raise --gpu-memory, or join with "
        "--observe."
    )


def test_a_long_context_is_named_as_the_reason() -> None:
    with pytest.raises(EngineStartError, match=r"\(20\.0 GB of it for one text as long as the project's max_model_len"):
        fit(model(5, context=20.0 * GB), [gpu(0)], 0.9)


def test_a_gpu_that_shares_the_machine_s_memory_is_taken_as_it_is() -> None:
    assert fit(model(50), [Gpu(index=0)], 0.8).groups == (Group((0,), 0.8),)


needs = st.builds(
    Need,
    model=st.just("m"),
    weights=st.floats(0, 500 * GB),
    context=st.floats(0, 20 * GB),
    heads=st.lists(st.sampled_from([1, 2, 6, 8, 14, 16, 28, 32]), max_size=2).map(tuple),
    kv_heads=st.sampled_from([1, 2, 3, 4, 8]),
)
machines = st.lists(
    st.tuples(st.sampled_from([8, 24, 80]), st.floats(0, 1), st.sampled_from(["A", "B"])), min_size=1, max_size=12
).map(lambda gpus: [gpu(n, total, total * free, name) for n, (total, free, name) in enumerate(gpus)])


@given(needs, machines, st.floats(0.05, 0.99))
def test_every_group_is_of_like_gpus_that_hold_the_model(need: Need, machine: list[Gpu], share: float) -> None:
    try:
        found = fit(need, machine, share)
    except EngineStartError:
        assert all(not (need.divides(1) and room(gpu, share) >= need.on_each(1)) for gpu in machine)
        return
    taken = [index for group in found.groups for index in group.gpus]
    assert len(taken) == len(set(taken)), "no GPU is in two groups"
    for group in found.groups:
        members = [machine[index] for index in group.gpus]
        assert len(members) in SIZES
        assert len({(gpu.name, gpu.total) for gpu in members}) == 1
        assert need.divides(len(members))
        assert all(room(gpu, share) >= need.on_each(len(members)) for gpu in members)
        assert group.gpu_memory <= share
        assert all(group.gpu_memory * gpu.total <= gpu.free - SPARE + 1 for gpu in members), "vLLM would not start"
    idle = [gpu for gpu in machine if gpu.index not in taken]
    assert all(any(f"GPU {gpu.index} " in notice for notice in found.notices) for gpu in idle)


# CPUs


def test_a_model_that_does_not_tell_what_it_keeps_gets_all_the_memory_that_is_asked_for() -> None:
    assert cpu_cache(model(3), 64, GB) == GB
    assert cpu_cache(model(3, context=1.0), 64, GB) == 64 * 1024**2, "a figure of a stranger's, and a lower bound"


def test_engines_on_a_cpu_share_its_memory() -> None:
    fit_cpu(model(3), 2, GB, 8.0 * GB)
    with pytest.raises(EngineStartError, match=r"needs about 12\.0 GB of memory for 3 on the CPU") as error:
        fit_cpu(model(3), 3, GB, 8.0 * GB)
    assert "--engines" in str(error.value)
    with pytest.raises(EngineStartError, match="--observe"):
        fit_cpu(model(8), 1, GB, 8.0 * GB)


def test_what_every_engine_takes_counts_too() -> None:
    assert model(0).on_each(1) == model(0).on_each(8) == OVERHEAD
