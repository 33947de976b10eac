"""Which GPUs of a machine run engines for a model, and which of them together.

Pure. What a model needs is its weights, the attention keys and values of one answer of full length (vLLM refuses to
start with less), and what any engine takes beside them. A model that fits one GPU gets an engine on each; otherwise 2,
4 or 8 GPUs of the same kind share it (tensor parallelism).

The figures are lower bounds on purpose: a model that is refused here would not run; one that is not may still turn out
too large, and is then tried with smaller settings.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from p2pcap.engine.gpus import Gpu
from p2pcap.engine.weights import Tensor
from p2pcap.errors import EngineStartError
from p2pcap.project.task import Task

SIZES = (1, 2, 4, 8)
"""GPUs that share one model, in the order in which they are tried."""

OVERHEAD = 1.0e9
"""Bytes on each GPU for CUDA's own context and the largest step's intermediate results, at the least."""

SPARE = 0.3e9
"""Bytes of what is free now that are left: vLLM's process takes some before it looks, and so do others meanwhile."""

LEAST_CACHE = 64 * 1024.0**2
"""Bytes for keys and values, whatever a config.json tells: it is a stranger's, and the figures are lower bounds."""

MOST = 2**53
"""From here on a number of a config.json is taken for nonsense: no model has such, and a product could be no float."""

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
FLOATS = ("F64", "F32", "F16", "BF16")
"""Number formats that vLLM converts to the task's when it loads; others are kept as they are."""

STORED = {"fp8": 1.0, "bitsandbytes": 0.5}
"""Bytes a number takes once vLLM has quantised plain weights itself while loading."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs: bytes of weights, and of keys and values for one answer of full length. The GPUs of a group
    share out its `heads` (those of each part that attends); `kv_heads` are shared out or, if they are fewer, copied."""

    model: str
    weights: float
    context: float = 0.0
    heads: tuple[int, ...] = ()
    kv_heads: int = 1

    def on_each(self, size: int) -> float:
        """Bytes on each of `size` GPUs."""
        return (self.weights + self.context) / size + OVERHEAD

    def divides(self, size: int) -> bool:
        """Whether its heads can be shared out among so many GPUs."""
        shared = self.kv_heads % size == 0 or size % self.kv_heads == 0
        return shared and all(heads % size == 0 for heads in self.heads)


class Group(msgspec.Struct, frozen=True):
    """The GPUs of one engine, by number, and the share of their memory that it may take."""

    gpus: tuple[int, ...]
    gpu_memory: float


class Fitting(msgspec.Struct, frozen=True):
    """One group for each engine, and lines for people on GPUs that are left idle or used in part."""

    groups: tuple[Group, ...]
    notices: tuple[str, ...] = ()


def need(task: Task, config: Mapping[str, Any], tensors: Iterable[Tensor]) -> Need:
    """What the task's model needs, from its config.json and the headers of its weights."""
    text = _section(config, "text_config") or config
    width = number_bytes(task, config)
    return Need(
        model=task.model.name,
        weights=sum(_loaded(tensor, width, task.quantization) for tensor in tensors),
        context=width * _numbers_a_sequence(text, task.max_model_len),
        heads=tuple(_whole(section, "num_attention_heads", "num_heads") or 1 for section in _attending(config, text)),
        kv_heads=_whole(text, "num_key_value_heads", "num_attention_heads") or 1,
    )


def number_bytes(task: Task, config: Mapping[str, Any]) -> int:
    """Bytes of a number as the engine on a GPU computes. "auto" is the model's own format, and 16 bits where that is
    float32 (vLLM, `_get_and_verify_dtype`)."""
    return BYTES.get(task.dtype, 2)


def _loaded(tensor: Tensor, width: int, quantization: str) -> float:
    if tensor.dtype not in FLOATS:
        return tensor.bytes
    return tensor.numbers * (STORED.get(quantization, width) if len(tensor.shape) > 1 else width)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _attending(config: Mapping[str, Any], text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a model whose heads are shared out among GPUs."""
    return [section for section in (text, _section(config, "vision_config")) if section]


def _whole(section: Mapping[str, Any], *names: str) -> int:
    """The first of these settings that is a positive whole number below MOST, or 0: a stranger wrote the file."""
    values = (section.get(name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value < MOST), 0)


def _numbers_a_sequence(text: Mapping[str, Any], max_model_len: int) -> int:
    """Keys and values that vLLM keeps for one sequence of full length; 0 where config.json does not tell."""
    length = max_model_len or _whole(text, "max_position_embeddings")
    window = _whole(text, "sliding_window") or length
    lengths = {"sliding_attention": min(window, length), "full_attention": length}
    kinds = text.get("layer_types")
    layers = _whole(text, "num_hidden_layers")
    if isinstance(kinds, list):
        return _numbers_a_token(text) * sum(lengths.get(str(kind), 0) for kind in kinds)
    return _numbers_a_token(text) * layers * (min(window, length) if _slides(text) else length)


def _slides(text: Mapping[str, Any]) -> bool:
    """Whether every layer may see a window only; told in as many ways as there are models, so any of them counts."""
    return bool(text.get("sliding_window")) and text.get("use_sliding_window") is not False


def _numbers_a_token(text: Mapping[str, Any]) -> int:
    """Keys and values of one token in one layer."""
    if latent := _whole(text, "kv_lora_rank"):
        return latent + _whole(text, "qk_rope_head_dim")
    heads = _whole(text, "num_attention_heads")
    if not heads:
        return 0
    width = _whole(text, "head_dim") or _whole(text, "hidden_size") // heads
    return 2 * (_whole(text, "num_key_value_heads") or heads) * width


def fit(need: Need, gpus: Sequence[Gpu], share: float) -> Fitting:
    """One group of GPUs for each engine. `share` is what the volunteer gives of each GPU's memory (0 to 1).

    Raises EngineStartError when the model fits no group.
    """
    groups: list[Group] = []
    idle: list[Gpu] = []
    for alike in _by_kind(gpus):
        rest = alike
        for size in SIZES:
            fitting = [gpu for gpu in rest if need.divides(size) and room(gpu, share) >= need.on_each(size)]
            taken = fitting[: len(fitting) // size * size]
            groups += [_group(taken[start : start + size], share) for start in range(0, len(taken), size)]
            rest = [gpu for gpu in rest if gpu not in taken]
        idle += rest
    if not groups:
        raise EngineStartError(_too_large(need, gpus, share))
    numbered = {gpu.index: gpu for gpu in gpus}
    notices = [_in_part(numbered[index], group, share) for group in groups for index in group.gpus]
    notices += [_left_idle(need, gpu, share) for gpu in idle]
    return Fitting(tuple(sorted(groups, key=lambda group: group.gpus)), tuple(notice for notice in notices if notice))


def room(gpu: Gpu, share: float) -> float:
    """Bytes that an engine may take of it: the volunteer's share, and no more than what others leave free."""
    return min(share * gpu.total, gpu.free - SPARE) if gpu.total else math.inf


def _by_kind(gpus: Sequence[Gpu]) -> list[list[Gpu]]:
    """The GPUs, those of one kind together: unlike ones would wait for each other, and compute unlike."""
    kinds: dict[tuple[str, int], list[Gpu]] = defaultdict(list)
    for gpu in gpus:
        kinds[gpu.name, gpu.total].append(gpu)
    return list(kinds.values())


def _group(gpus: Sequence[Gpu], share: float) -> Group:
    """vLLM takes one share for all GPUs of an engine, and refuses to start where less than that is free."""
    least = min((room(gpu, share) / gpu.total for gpu in gpus if gpu.total), default=share)
    return Group(tuple(gpu.index for gpu in gpus), math.floor(1000 * min(share, least)) / 1000)


def _too_large(need: Need, gpus: Sequence[Gpu], share: float) -> str:
    best = max(gpus, key=lambda gpu: room(gpu, share))
    most = max(size for size in SIZES if size == 1 or (need.divides(size) and size <= len(gpus)))
    needs = f"The model {need.model} needs about {gigabytes(need.on_each(1))} of GPU memory"
    if need.context > need.weights / 4:
        needs += f" ({gigabytes(need.context)} of it for one text as long as the project's max_model_len allows)"
    if most > 1:
        needs += f", {gigabytes(need.on_each(most))} on each of {most} GPUs of one kind"
    return (
        f"{needs}; {best.named}, the one with most room, has {gigabytes(max(0.0, room(best, share)))} to give of "
        f"{gigabytes(best.total)}. End other programs on it, raise --gpu-memory, or join with --observe."
    )


def _in_part(gpu: Gpu, group: Group, share: float) -> str:
    if group.gpu_memory >= math.floor(1000 * share) / 1000:
        return ""
    others = gigabytes(gpu.total - gpu.free)
    return f"{gpu.named}: {group.gpu_memory:.2f} of its memory is used instead of {share:.2f}; others have {others}."


def _left_idle(need: Need, gpu: Gpu, share: float) -> str:
    has = room(gpu, share)
    needs = f"the model needs {gigabytes(need.on_each(1))} on one GPU"
    shared = [size for size in SIZES[1:] if need.divides(size) and has >= need.on_each(size)]
    if shared:
        needs += f", or {gigabytes(need.on_each(shared[0]))} on each of {shared[0]} of a kind"
    return f"{gpu.named} is left idle: it has {gigabytes(max(0.0, has))} to give, and {needs}."


def fit_cpu(need: Need, engines: int, kv_bytes: float, memory: float) -> None:
    """Returns when so many engines with `kv_bytes` for keys and values each may fit `memory`, all in bytes.

    Raises EngineStartError when they cannot.
    """
    wanted = engines * (need.weights + kv_bytes)
    if wanted > memory:
        fewer = "Ask for fewer with --engines, or join with --observe" if engines > 1 else "Join with --observe"
        raise EngineStartError(
            f"The model {need.model} needs about {gigabytes(wanted)} of memory for {engines} on the CPU; this machine "
            f"has {gigabytes(memory)}. {fewer}."
        )


def cpu_cache(need: Need, batch: int, most: float) -> float:
    """Bytes for keys and values of an engine on the CPU: `most`, or what two batches of the longest texts take if that
    is less. An engine touches all of them as it starts, in seconds for each GiB, and the rest would serve nobody: one
    batch is in hand, and as many images stay for the prompts that ask of them next."""
    return min(most, max(LEAST_CACHE, 2 * batch * need.context)) if need.context else most


def gigabytes(count: float) -> str:
    """For people: "11.6 GB"."""
    return f"{count / 1e9:.1f} GB"
