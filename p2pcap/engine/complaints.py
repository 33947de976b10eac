"""What vLLM's own messages mean to somebody who captions, each as one clear sentence and what to do next.

vLLM says the same in lines that name arguments nobody here can set, deep in a log. The patterns are those of vLLM 0.32
and transformers 5; a message that is not known is passed on as it is. Pure.
"""

import re
from dataclasses import dataclass

MODEL = "Use another model, or a newer vLLM."
DRIVER = "Install the driver, or the CPU build of vLLM (p2pcap[cpu])."
NUMBERS = "Join with another GPU, or use another number format."


@dataclass(frozen=True)
class Complaint:
    """`model_at_fault`: the model cannot be used; otherwise this machine cannot use it."""

    sentence: str
    model_at_fault: bool


_KNOWN: tuple[tuple[str, str, bool], ...] = (
    (
        r"Model architectures \[([^\]]*)\] (?:are not supported|failed to be inspected)",
        f"vLLM does not know the model's architecture {{}}. {MODEL}",
        True,
    ),
    (
        r"model type `?([\w.-]+)`? but Transformers does not recognize",
        f"vLLM does not know the model's type {{}}. {MODEL}",
        True,
    ),
    (
        r"(?:setting|argument) `trust_remote_code=True`|requires you to execute|contains custom code which must be",
        "The model needs Python code of its own, which its project did not ask for. Use another model.",
        True,
    ),
    (
        r"Failed to infer device type|Found no NVIDIA driver|No CUDA GPUs are available|libcuda\.so|libnvidia-ml"
        r"|no CUDA-capable device",
        f"vLLM finds no GPU or no driver for it here. {DRIVER}",
        False,
    ),
    (
        r"driver (?:version )?(?:on your system )?is (?:insufficient|too old)",
        "The GPU's driver is too old for this vLLM. Install a newer driver.",
        False,
    ),
    (
        r"Bfloat16 is only supported on GPUs",
        f"This GPU cannot compute in bfloat16, which the task asks for. {NUMBERS}",
        False,
    ),
    (
        r"no kernel image is available for execution",
        "This GPU is too old, or too new, for this vLLM. Join with another GPU.",
        False,
    ),
    (
        r"quantization method (\S+) is not supported for the current GPU",
        f"This GPU cannot compute with {{}} weights. {NUMBERS}",
        False,
    ),
    (
        r"(\S+) quantization is currently not supported in",
        f"This device cannot compute with {{}} weights. {NUMBERS}",
        False,
    ),
    (
        r"Cannot find the config file for (\S+)",
        "The task says that the model's weights are in {}, and they are not. Correct the task's quantization.",
        True,
    ),
    (
        r"(\S+) is not supported for quantization method ([\w-]+)",
        "The task's number format {} does not go with {} weights. Use another number format.",
        True,
    ),
    (
        r"model config \((\S+)\) does not match the quantization method specified in the `quantization` argument"
        r" \((\S+)\)",
        "The model's weights are in {}, and the task says {}. Correct the task's quantization.",
        True,
    ),
    (r"Unknown quantization method: (\S+)\.", "vLLM knows no quantization {}. Correct the task's quantization.", True),
    (
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \(max_position_embeddings=(\d+)",
        "The task asks for {} tokens of context, and the model was made for {}. Lower the task's max_model_len.",
        True,
    ),
    (
        r"SafetensorError|Error while deserializing header|PytorchStreamReader|not a valid safetensors",
        "The model's weights are damaged. Fetch the model again.",
        True,
    ),
    (
        r"size mismatch for|The size of tensor a \(\d+\) must match|weights were not initialized from checkpoint"
        r"|There is no module or parameter named",
        "The model's weights do not fit its config.json. Fetch the model again, or use another.",
        True,
    ),
    (
        r"No space left on device",
        "The disk, or the memory that programs share (/dev/shm), is full. Make room on it.",
        False,
    ),
    (
        r"not multimodal|At most 0 image\(s\) may be provided",
        "The model reads no images. Use a model that does.",
        True,
    ),
)


def known(text: str) -> Complaint | None:
    """What an engine's output complains of, when it is one of the known complaints."""
    for pattern, sentence, model_at_fault in _KNOWN:
        if found := re.search(pattern, text):
            names = (name.strip(" '\"") for name in found.groups())
            return Complaint(sentence.format(*names), model_at_fault)
    return None
