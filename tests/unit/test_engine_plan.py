"""Whether volunteer, task and machine go together is found out, and said, before anything is claimed."""

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.device import machine_memory
from p2pcap.engine.fitting import Need
from p2pcap.engine.gpus import Gpu, Gpus
from p2pcap.errors import ConfigError, EngineStartError, ModelError
from p2pcap.node import engine_plan
from p2pcap.node.engine_plan import Plan, check_task, on_gpus, plan_engines
from p2pcap.node.options import EngineOptions
from tests.engine.hosted import MODEL, TASK

GB = 10**9
WHOLE = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="RTX", total=24 * GB, free=24 * GB) for index in range(4))
NEED = Need(model="big", weights=16.0 * GB)
OPENAI = EngineOptions(EngineSettings(endpoints=("http://127.0.0.1:8000/v1",)), kind="openai")


@pytest.fixture(autouse=True)
def for_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever vLLM is installed where this is tested."""
    monkeypatch.setattr(engine_plan, "for_cpu", lambda: True)


# the task


def test_a_task_that_takes_any_engine_is_taken() -> None:
    check_task(TASK, EngineOptions())
    check_task(TASK, OPENAI)


def test_a_task_that_excludes_this_kind_of_engine_is_refused_in_one_sentence_with_the_way_out() -> None:
    with pytest.raises(EngineStartError, match=r"no captions of --engine openai.*leave --engine out"):
        check_task(replace(TASK, engines=("vllm",)), OPENAI)
    with pytest.raises(EngineStartError, match=r"no captions of --engine vllm.*--engine openai and --url"):
        check_task(replace(TASK, engines=("openai",)), EngineOptions())


@pytest.mark.parametrize("named", [(), ("shape",), ("other/model",), ("SHAPES",)])
def test_remote_code_needs_the_volunteer_s_word_for_that_model(named: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="--trust-remote-code shapes"):
        check_task(replace(TASK, remote_code=True), EngineOptions(remote_code=named))


def test_with_the_word_for_that_model_it_is_taken_and_only_where_the_task_needs_it() -> None:
    options = EngineOptions(remote_code=("other/model", "shapes"))
    for needs, trusted in ((True, True), (False, False), (UNSET, False)):
        task = replace(TASK, remote_code=needs)
        check_task(task, options)
        (settings,) = plan_engines(MODEL, task, options).settings
        assert settings.trust_remote_code == trusted
    check_task(replace(TASK, remote_code=True), OPENAI)


# GPUs


FOUND = Gpus(WHOLE)


def planned(settings: EngineSettings, found: Gpus = FOUND, shown: str | None = None, **more: Any) -> Plan:
    return on_gpus(more.get("need", NEED), settings, more.get("cpu_engines", 1), found, shown)


def test_one_engine_a_gpu() -> None:
    plan = planned(EngineSettings(max_num_seqs=7))
    assert plan.names == ("GPU 0", "GPU 1", "GPU 2", "GPU 3")
    assert plan.settings == tuple(EngineSettings(max_num_seqs=7, gpus=(number,)) for number in range(4))


def test_the_volunteer_chooses_among_those_that_are_there() -> None:
    assert planned(EngineSettings(gpus=(0, 2))).names == ("GPU 0", "GPU 2")
    assert planned(EngineSettings(gpus=(2, 3)), need=replace(NEED, weights=30.0 * GB)).names == ("GPUs 2+3",)
    with pytest.raises(EngineStartError, match=r"--gpus names GPU 7.*GPU 0 \(RTX\), GPU 1"):
        planned(EngineSettings(gpus=(0, 7)))
    with pytest.raises(EngineStartError, match="none to choose from: no driver"):
        planned(EngineSettings(gpus=(0,)), Gpus(reason="no driver"))


def test_cuda_visible_devices_is_respected() -> None:
    assert planned(EngineSettings(), shown="3,1").names == ("GPU 1", "GPU 3")
    with pytest.raises(EngineStartError, match="--gpus names GPU 0"):
        planned(EngineSettings(gpus=(0,)), shown="3,1")


def test_divided_gpus_are_left_alone() -> None:
    divided = tuple(replace(gpu, divided=gpu.index == 1) for gpu in WHOLE)
    assert planned(EngineSettings(), Gpus(divided)).names == ("GPU 0", "GPU 2", "GPU 3")
    plan = planned(EngineSettings(), Gpus(divided[1:2]))
    assert plan.settings == (EngineSettings(),)
    assert "MIG" in plan.notices[0]


def test_where_no_gpu_is_told_of_vllm_takes_what_it_finds() -> None:
    plan = planned(EngineSettings(), Gpus(reason="no driver"))
    assert (plan.settings, plan.names) == ((EngineSettings(),), ("engine",))
    assert "no driver" in plan.notices[0]


def test_engines_on_gpus_are_not_counted_by_the_volunteer() -> None:
    with pytest.raises(EngineStartError, match="--engines is for CPUs"):
        planned(EngineSettings(), cpu_engines=2)


# CPUs


def test_engines_on_a_cpu_share_its_threads() -> None:
    cores = len(os.sched_getaffinity(0))
    plan = plan_engines(MODEL, TASK, EngineOptions(cpu_engines=3))
    assert plan.names == ("CPU 0", "CPU 1", "CPU 2")
    assert {settings.threads for settings in plan.settings} == {max(1, (cores - 1) // 3)}
    assert plan_engines(MODEL, TASK, EngineOptions()).settings == (EngineSettings(kv_cache_gib=1 / 16),)


def test_an_engine_on_a_cpu_gets_memory_for_two_batches_and_no_more_than_asked_for() -> None:
    """The shipped model keeps half a MiB for a text of 512 tokens."""
    for batch, asked, given in ((64, 1.0, 1 / 16), (512, 1.0, 1 / 2), (2048, 1.0, 1.0), (64, 1 / 32, 1 / 32)):
        settings = EngineSettings(max_num_seqs=batch, kv_cache_gib=asked)
        assert plan_engines(MODEL, TASK, EngineOptions(settings)).settings[0].kv_cache_gib == given


def test_more_engines_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_plan, "machine_memory", lambda: 1e8)
    plan_engines(MODEL, TASK, EngineOptions())
    with pytest.raises(EngineStartError, match="--engines"):
        plan_engines(MODEL, TASK, EngineOptions(cpu_engines=2))


def test_gpus_are_not_for_a_vllm_without_them() -> None:
    with pytest.raises(EngineStartError, match=r"p2pcap\[gpu\]"):
        plan_engines(MODEL, TASK, EngineOptions(EngineSettings(gpus=(0,))))


def test_this_machine_has_memory() -> None:
    assert 10**8 < machine_memory() < 10**14


# servers and damaged models


def test_servers_need_no_model_and_their_addresses_are_checked(tmp_path: Path) -> None:
    assert plan_engines(tmp_path, TASK, OPENAI).names == ("servers",)
    with pytest.raises(ConfigError):
        plan_engines(tmp_path, TASK, EngineOptions(EngineSettings(endpoints=("ftp://x",)), kind="openai"))


def test_a_damaged_model_is_found_before_vllm_is_started(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((MODEL / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        plan_engines(tmp_path, TASK, EngineOptions())
