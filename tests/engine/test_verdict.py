"""What follows from the end of a process."""

from pathlib import Path

import pytest

from p2pcap.engine import frames
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.life import End
from p2pcap.engine.verdict import give_up_if_hopeless, with_less_memory
from p2pcap.errors import EngineStartError, ModelError

OWN = EngineSettings()
SERVERS = EngineSettings(endpoints=("http://127.0.0.1:8000/v1",))
LOG = Path("engine.log")
SHORT = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
ONE_ANSWER = "device_config=cpu (7.63 GiB KV cache is needed, which is larger than the KV cache memory (1.0 GiB)."


def refused(reason: str, model_at_fault: bool = False, printed: str = "") -> End:
    return End(f"{reason} (RuntimeError: x).", frames.Refused(reason, model_at_fault), printed)


def test_a_lack_of_memory_is_answered_with_smaller_settings_whenever_it_comes() -> None:
    for was_ready in (False, True):
        less = with_less_memory(End("It died.", printed=SHORT), EngineSettings(), was_ready, LOG)
        assert less == EngineSettings(max_num_seqs=32)
        less = with_less_memory(End("Killed.", short_of_memory=True), EngineSettings(), was_ready, LOG)
        assert less == EngineSettings(max_num_seqs=32)
    assert with_less_memory(End("It died.", printed="INFO all is well"), EngineSettings(), False, LOG) is None


def test_no_smaller_settings_are_the_end_of_a_start_only() -> None:
    with pytest.raises(EngineStartError, match=r"needs 7.6 GiB of memory, and 1.0 GiB are there.*engine\.log"):
        with_less_memory(End("It died.", printed=ONE_ANSWER), EngineSettings(), False, LOG)
    assert with_less_memory(End("It died.", printed=ONE_ANSWER), EngineSettings(), True, LOG) is None


def test_a_process_that_said_nothing_is_started_again() -> None:
    give_up_if_hopeless(End("The engine's process was killed by SIGKILL."), OWN, False, LOG)
    give_up_if_hopeless(refused("vLLM does not start."), OWN, True, LOG)


def test_a_model_at_fault_is_refused_whenever_that_is_said() -> None:
    for was_ready in (False, True):
        with pytest.raises(ModelError, match="does not know the model's architecture X"):
            give_up_if_hopeless(refused("Model architectures ['X'] are not supported for now."), OWN, was_ready, LOG)
        with pytest.raises(ModelError, match=r"^Something new\.$"):
            give_up_if_hopeless(refused("Something new.", model_at_fault=True), OWN, was_ready, LOG)


def test_a_machine_at_fault_is_told_of_once() -> None:
    end = refused("vLLM does not take the model.", model_at_fault=True, printed="Failed to infer device type, please")
    with pytest.raises(EngineStartError, match=r"no GPU or no driver.*engine\.log"):
        give_up_if_hopeless(end, OWN, False, LOG)
    with pytest.raises(EngineStartError, match=r"does not start\. \(RuntimeError: x\)\. Its log is engine\.log"):
        give_up_if_hopeless(refused("vLLM does not start."), OWN, False, LOG)


def test_what_a_server_says_of_its_memory_and_its_model_is_not_about_this_machine() -> None:
    for was_ready in (False, True):
        for end in (End("It died.", printed=SHORT), End("Killed.", short_of_memory=True)):
            assert with_less_memory(end, SERVERS, was_ready, LOG) is None
    words = "Model architectures ['X'] are not supported for now."
    give_up_if_hopeless(refused(words, printed=words), SERVERS, True, LOG)
    with pytest.raises(EngineStartError, match=r"^Model architectures.*engine\.log"):
        give_up_if_hopeless(refused(words, printed=words), SERVERS, False, LOG)
