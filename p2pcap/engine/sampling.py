"""A task's sampling and formats in vLLM's words. Pure, and without vLLM.

Always holds: what the task does not set is not in the arguments, so that vLLM's own default holds.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET

from p2pcap.project.sampling import Format, Sampling

_MILLI = frozenset(
    {"temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"},
)
"""Fields in thousandths."""

_FORMATS: Mapping[str, Callable[[Format], dict[str, Any]]] = {
    "json": lambda form: {"json_object": True},
    "schema": lambda form: {"json": form.text},
    "regex": lambda form: {"regex": form.text},
    "choice": lambda form: {"choice": list(form.choices)},
}


def arguments(sampling: Sampling) -> dict[str, Any]:
    """The arguments of SamplingParams, without the seed, which is another one for each request."""
    values = ((name, getattr(sampling, name)) for name in sampling.__struct_fields__ if name != "seed")
    return {name: _value(name, value) for name, value in values if value is not UNSET}


def structured(form: Format) -> dict[str, Any]:
    """The arguments of StructuredOutputsParams."""
    return _FORMATS[form.kind](form)


def seed(tid: bytes, sha256: bytes, prompt: int, attempt: int = 0) -> int:
    """63 bits that follow from task, image, prompt and attempt alone: nobody chooses the randomness of an answer."""
    more = attempt.to_bytes(2, "big") if attempt else b""
    digest = hashlib.sha256(b"p2pcap sampling seed 1" + tid + sha256 + prompt.to_bytes(2, "big") + more).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _value(name: str, value: Any) -> Any:
    if name in _MILLI:
        return value / 1_000
    if name == "logit_bias":
        return {bias.token: bias.add / 1_000 for bias in value}
    return list(value) if isinstance(value, tuple) else value
