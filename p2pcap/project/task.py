"""The task: everything that decides what a caption says.

Model and revision, number format, prompts, sampling, image size. A volunteer may choose nothing of it; what does not
change the output (batch size, memory, which GPU) is not in it. Its id is a hash of all of it, so captions made under
different settings never mix. Records hold no floats: ratios are in thousandths.
"""

import hashlib
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import encode

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=8_192)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Milli = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
"""Thousandths of a number: 700 is 0.7."""

FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]

MAX_FIELDS, MAX_FIELD_NAME = 32, 64
"""Metadata fields of an image, and characters of a field's name."""

FieldName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FIELD_NAME)]

MAX_PROMPTS = 16
MAX_MODEL_FILES = 64


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every record: immutable, and an unknown field is an error."""


class ModelFile(Record, frozen=True):
    """One file of a model that travels through the swarm: its name, SHA-256 and bytes."""

    name: FileName
    hash: Hash
    length: Count


class Model(Record, frozen=True):
    """Which model. From the Hub: `name` is the repository and `revision` its 40-hex commit. Otherwise `files` lists
    what makes it up and `revision` is empty: such a model is small, and peers hand it to each other by hash."""

    name: Name
    revision: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")] = ""
    files: Annotated[tuple[ModelFile, ...], msgspec.Meta(max_length=MAX_MODEL_FILES)] = ()


class Prompt(Record, frozen=True):
    """One question put to the model about each image; `name` is its column in exports."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]


class Sampling(Record, frozen=True):
    """How the next token is chosen. Temperature 0 is greedy; above it `seed` makes one GPU repeatable.

    On a CPU vLLM 0.32 takes no seeds (p2pcap.engine.device.takes_seeds), so there only temperature 0 is repeatable.
    """

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=8_192)] = 256
    temperature: Milli = 0
    top_p: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1_000
    repetition_penalty: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    seed: Count = 0
    stop: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)] = ()


class Task(Record, frozen=True):
    """One captioning task: each prompt is answered for each image."""

    model: Model
    prompts: Annotated[tuple[Prompt, ...], msgspec.Meta(min_length=1, max_length=MAX_PROMPTS)]
    sampling: Sampling = Sampling()
    dtype: Annotated[str, msgspec.Meta(pattern=r"^(auto|float32|float16|bfloat16)\Z")] = "auto"
    quantization: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{0,32}\Z")] = ""
    system: Text = ""
    image_edge: Annotated[int, msgspec.Meta(ge=0, le=8_192)] = 0
    """Longest edge in pixels an image is scaled down to before the model's own preprocessing; 0 leaves it as it is."""
    max_model_len: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 0
    """Tokens of context; 0 takes the model's own."""
    fields: Annotated[tuple[FieldName, ...], msgspec.Meta(max_length=MAX_FIELDS)] | UnsetType = UNSET
    """The images' metadata that `{name}` in prompts and system text stands for (p2pcap.project.prompts)."""

    @property
    def tid(self) -> bytes:
        """The task's id: the first 8 bytes of SHA-256 over its encoding."""
        return hashlib.sha256(encode(self)).digest()[:8]
