"""What can be said against a model or a change of task without loading anything."""

import pytest
from msgspec.structs import replace

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.model import check_same_model, check_trust
from p2pcap.errors import ModelError
from p2pcap.project.sampling import Sampling
from p2pcap.project.task import Model, Prompt, Task

TASK = Task(Model("maker/model"), (Prompt("describe", "What is it?"),))


def test_a_models_own_code_needs_the_volunteers_word() -> None:
    task = replace(TASK, remote_code=True)
    with pytest.raises(ModelError, match="--trust-remote-code maker/model"):
        check_trust(task, EngineSettings())
    check_trust(task, EngineSettings(trust_remote_code=True))
    check_trust(TASK, EngineSettings())


@pytest.mark.parametrize(
    "other",
    [
        {"model": Model("maker/other")},
        {"dtype": "float16"},
        {"quantization": "awq"},
        {"max_model_len": 99},
        {"remote_code": True},
    ],
)
def test_a_task_with_another_model_cannot_be_swapped_in(other: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=f"another {next(iter(other)).replace('_', ' ')}"):
        check_same_model(TASK, replace(TASK, **other))


def test_prompts_and_sampling_can_be_swapped() -> None:
    check_same_model(TASK, replace(TASK, prompts=(Prompt("tags", "Tags?"),), sampling=Sampling(max_tokens=5)))
