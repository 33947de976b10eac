"""What is read out of an engine that lacks memory, and what it is started with then."""

import pytest
from msgspec.structs import replace

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.memory import Lack, lack, notice, smaller, too_little

CPU = "INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: device_config=cpu, seed=0\n"
HOST = (
    "ERROR RuntimeError: Worker failed with error 'Available memory on node 0 (20.68/23.54 GiB) on kv cache allocation "
    "is less than requested memory for kv (4096.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or "
    "reduce CPU memory used by other processes.'"
)
CACHE = (
    "ValueError: To serve at least one request with the model's max seq len (8000000), (7.63 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (1.0 GiB). Based on the available memory, the estimated maximum"
)
SHARE = (
    "ValueError: Free memory on device cuda:0 (6.91/11.63 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 10.47 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
NO_BLOCKS = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when"
TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 11.63 GiB "
    "of which 512.00 MiB is free. Including non-PyTorch memory, this process has 11.1 GiB memory in use."
)
SAMPLER = "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. Please try"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (CPU + HOST, Lack("host cache", 4096.0, 20.68, 23.54, cpu=True)),
        (CPU + CACHE, Lack("cache", 7.63, 1.0, cpu=True)),
        (CACHE, Lack("cache", 7.63, 1.0)),
        (SHARE, Lack("device share", 10.47, 6.91, 11.63)),
        (NO_BLOCKS, Lack("cache")),
        (TORCH, Lack("work", 2.5, 0.5, 11.63)),
        (SAMPLER, Lack("work")),
        ("HIP out of memory. Tried to allocate 256.00 MiB.", Lack("work", 0.25)),
        ("terminate called after throwing an instance of 'std::bad_alloc'", Lack("work")),
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.", Lack("work")),
        ("OSError: [Errno 12] Cannot allocate memory", Lack("work")),
        ("INFO GPU KV cache size: 1,024 tokens. Memory profiling takes 2 s.", None),
        ("", None),
    ],
)
def test_a_lack_of_memory_is_read_from_what_was_printed(text: str, read: Lack | None) -> None:
    assert lack(text) == read


def steps(settings: EngineSettings, missing: Lack) -> list[EngineSettings]:
    tried = []
    while (less := smaller(settings, missing)) is not None:
        assert less != settings
        settings = less
        tried.append(less)
    return tried


def test_fewer_answers_at_once_then_fewer_tokens_then_no_graphs() -> None:
    tried = steps(EngineSettings(max_num_seqs=5), Lack("work"))
    assert [(each.max_num_seqs, each.max_num_batched_tokens, each.eager) for each in tried] == [
        (2, 0, False),
        (1, 0, False),
        (1, 2048, False),
        (1, 1024, False),
        (1, 1024, True),
    ]


def test_room_for_one_answer_is_not_made_by_asking_for_fewer() -> None:
    tried = steps(EngineSettings(max_num_batched_tokens=8192), Lack("cache", 7.6, 1.0))
    assert [(each.max_num_seqs, each.max_num_batched_tokens, each.eager) for each in tried] == [
        (64, 4096, False),
        (64, 2048, False),
        (64, 1024, False),
        (64, 1024, True),
    ]
    assert steps(EngineSettings(), Lack("cache", 7.6, 1.0, cpu=True)) == []


def test_a_gpu_that_others_use_gives_what_is_free() -> None:
    less = smaller(EngineSettings(), Lack("device share", 10.47, 6.91, 11.63))
    assert less == EngineSettings(gpu_memory=0.57)
    assert smaller(EngineSettings(), Lack("device share", 10.47, 0.91, 11.63)) is None


def test_a_cpu_gives_keys_and_values_half_of_what_is_free() -> None:
    assert smaller(EngineSettings(kv_cache_gib=4096), Lack("host cache", 4096.0, 20.68)) == EngineSettings(
        kv_cache_gib=10
    )
    assert smaller(EngineSettings(kv_cache_gib=1), Lack("host cache", 1.0, 0.5)) is None


def test_nothing_that_changes_a_caption_is_ever_changed() -> None:
    allowed = {"max_num_seqs", "max_num_batched_tokens", "gpu_memory", "kv_cache_gib", "eager"}
    chosen = EngineSettings(kv_cache_gib=64, threads=3, gpus=(0, 1), trust_remote_code=True, served_model="m")
    for kind in ("host cache", "device share", "cache", "work"):
        for tried in steps(chosen, Lack(kind, 9.0, 8.0, 11.0)):
            kept = {name: getattr(tried, name) for name in allowed}
            assert tried == replace(chosen, **kept)


def test_people_are_told_what_is_smaller_and_what_is_missing() -> None:
    chosen = EngineSettings()
    used = EngineSettings(max_num_seqs=8, gpu_memory=0.57, eager=True)
    assert notice(chosen, chosen) == ""
    told = "Memory was short, so the engine runs with 8 answers at once, 57% of the GPU's memory, no compiled graphs."
    assert notice(chosen, used) == told
    assert "needs 7.6 GiB of memory, and 1.0 GiB are there" in too_little(Lack("cache", 7.63, 1.0))
    assert "needs more memory than is there" in too_little(Lack("work"))
