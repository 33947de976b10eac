"""Where an engine's temporary files go."""

import socket
import tempfile
import uuid
from pathlib import Path

import pytest

from p2pcap.engine import device
from p2pcap.engine.base import EngineSettings
from p2pcap.project.task import Model, Prompt, Task

TASK = Task(Model("m"), (Prompt("describe", "What is it?"),))


@pytest.mark.parametrize("length", [10, 60, 120])
def test_a_socket_fits_into_the_folder_however_long_the_usual_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    usual = tmp_path / ("x" * length)
    usual.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(usual))
    with device.scratch() as folder, socket.socket(socket.AF_UNIX) as end:
        end.bind(f"{folder}/{uuid.uuid4()}")
        variables = device.scratch_environment(folder)
        assert variables == {"TMPDIR": folder, "VLLM_RPC_BASE_PATH": folder}
    assert not Path(folder).exists()


def test_only_a_folder_made_for_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stays in ((f"{device.SCRATCH}1", False), ("anything", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").touch()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        device.remove_scratch()
        assert folder.exists() == stays


def test_the_folder_lies_in_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as usual:
        monkeypatch.setattr(tempfile, "tempdir", usual)
        with device.scratch() as folder:
            assert Path(folder).parent == Path(usual)
        assert list(Path(usual).iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "allowed", "given"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_models_own_code_runs_only_when_task_and_volunteer_say_so(asked: bool, allowed: bool, given: bool) -> None:
    task = Task(TASK.model, TASK.prompts, remote_code=asked)
    for kind in ("cpu", "cuda"):
        arguments = device.engine_args(kind, "/m", task, EngineSettings(trust_remote_code=allowed))
        assert arguments["trust_remote_code"] is given


def test_a_group_of_gpus_is_one_engines_and_shares_the_model() -> None:
    settings = EngineSettings(gpus=(2, 3), eager=True, max_num_batched_tokens=4096, gpu_memory=0.5)
    variables = device.environment(settings, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert (variables["CUDA_VISIBLE_DEVICES"], variables["CUDA_DEVICE_ORDER"]) == ("2,3", "PCI_BUS_ID")
    arguments = device.engine_args("cuda", "/m", TASK, settings)
    assert arguments["tensor_parallel_size"] == 2
    assert arguments["enforce_eager"] is True
    assert arguments["max_num_batched_tokens"] == 4096
    assert arguments["gpu_memory_utilization"] == 0.5


def test_without_a_choice_vllm_finds_its_gpus_and_its_numbers_itself() -> None:
    variables = device.environment(EngineSettings(), {"CUDA_VISIBLE_DEVICES": "1"})
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_DEVICE_ORDER" not in variables
    assert device.engine_args("cuda", "/m", TASK, EngineSettings())["max_num_batched_tokens"] is None


def test_memory_for_keys_and_values_on_a_cpu_is_what_is_chosen_whatever_the_environment_says() -> None:
    assert device.engine_args("cpu", "/m", TASK, EngineSettings(kv_cache_gib=0.25))["kv_cache_memory_bytes"] == 2**28
    assert "VLLM_CPU_KVCACHE_SPACE" not in device.environment(EngineSettings(), {"VLLM_CPU_KVCACHE_SPACE": "40"})


def test_keys_for_servers_reach_only_an_engine_that_asks_servers() -> None:
    keys = {"OPENAI_API_KEY": "a", "P2PCAP_OPENAI_KEY": "b", "P2PCAP_OPENAI_KEY_1": "c"}
    assert not keys.keys() & device.environment(EngineSettings(), keys | {"PATH": "/bin"}).keys()
    asking = device.environment(EngineSettings(endpoints=("http://127.0.0.1/v1",)), keys)
    assert keys.items() <= asking.items()
