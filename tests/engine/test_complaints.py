"""vLLM's own messages, word for word, and what people are told instead."""

import pytest

from p2pcap.engine.complaints import known

UNKNOWN = (
    "vLLM does not take the model: Model architectures ['NoSuchModel'] are not supported for now. Supported "
    "architectures: dict_keys(['AfmoeForCausalLM', 'ApertusForCausalLM'"
)
UNKNOWN_TYPE = (
    "The checkpoint you are trying to load has model type `nosuch` but Transformers does not recognize this "
    "architecture. This could be because of an issue with the checkpoint, or because your version of T"
)
CUSTOM = (
    "The repository /models/x contains custom code which must be executed to correctly load the model. You can inspect "
    "the repository content at /models/x ."
)
OTHER_QUANTIZATION = (
    "Quantization method specified in the model config (gptq) does not match the quantization method specified in the "
    "`quantization` argument (awq)."
)
TOO_LONG = (
    "User-specified max_model_len (100000) is greater than the derived max_model_len (max_position_embeddings=512.0 or "
    "model_max_length=None in model's config.json)."
)
BF16 = (
    "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute "
    "capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag in CLI"
)
OLD_GPU = (
    "The quantization method awq is not supported for the current GPU. Minimum capability: 75. Current capability: 70."
)


@pytest.mark.parametrize(
    ("text", "beginning", "model_at_fault"),
    [
        (UNKNOWN, "vLLM does not know the model's architecture NoSuchModel.", True),
        (UNKNOWN_TYPE, "vLLM does not know the model's type nosuch.", True),
        (CUSTOM, "The model needs Python code of its own", True),
        ("consider setting `trust_remote_code=True` in LLM or", "The model needs Python code of its own", True),
        ("Cannot find the config file for awq", "The task says that the model's weights are in awq", True),
        ("Unknown quantization method: nosuch. Must be one of ['awq',", "vLLM knows no quantization nosuch.", True),
        (OTHER_QUANTIZATION, "The model's weights are in gptq, and the task says awq.", True),
        ("torch.float32 is not supported for quantization method awq. Supported", "The task's number format", True),
        (TOO_LONG, "The task asks for 100000 tokens of context, and the model was made for 512.", True),
        ("RuntimeError: The size of tensor a (256) must match the size of tensor b (128)", "The model's weights", True),
        ("safetensors_rust.SafetensorError: Error while deserializing header", "The model's weights are damaged", True),
        (BF16, "This GPU cannot compute in bfloat16", False),
        (OLD_GPU, "This GPU cannot compute with awq weights.", False),
        ("gguf quantization is currently not supported in cpu.", "This device cannot compute with gguf", False),
        ("RuntimeError: Failed to infer device type, please set", "vLLM finds no GPU or no driver", False),
        ("ImportError: libcuda.so.1: cannot open shared object file", "vLLM finds no GPU or no driver", False),
        ("RuntimeError: Found no NVIDIA driver on your system.", "vLLM finds no GPU or no driver", False),
        ("CUDA driver version is insufficient for CUDA runtime version", "The GPU's driver is too old", False),
        ("The NVIDIA driver on your system is too old (found version 11040)", "The GPU's driver is too old", False),
        ("OSError: [Errno 28] No space left on device", "The disk, or the memory that programs share", False),
    ],
)
def test_a_known_complaint_is_one_clear_sentence(text: str, beginning: str, model_at_fault: bool) -> None:
    complaint = known(f"INFO before\n{text}\nINFO after")
    assert complaint is not None
    assert complaint.sentence.startswith(beginning)
    assert complaint.model_at_fault == model_at_fault
    assert "\n" not in complaint.sentence
    assert "{" not in complaint.sentence


def test_what_vllm_prints_of_itself_is_no_complaint() -> None:
    assert known("INFO config: trust_remote_code=True, dtype=torch.float32, quantization=None") is None
