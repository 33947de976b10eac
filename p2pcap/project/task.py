"""The task: everything that decides what a caption says.

Model and revision, number format, prompts, sampling, image size. A volunteer may choose nothing of it; what does not
change the output (batch size, memory, which GPU) is not in it. Its id is a hash of all of it, so captions made under
different settings never mix. Records hold no floats: ratios are in thousandths.
"""

import hashlib
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import encode
from p2pcap.project.record import Count, Hash, Record, Text
from p2pcap.project.sampling import Format, OutputPolicy, Sampling

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]

MAX_FIELDS, MAX_FIELD_NAME = 32, 64
"""Metadata fields of an image, and characters of a field's name."""

FieldName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FIELD_NAME)]

EngineKind = Literal["vllm", "openai"]
"""What runs the model: vLLM in the volunteer's own process, or a server with OpenAI's interface that it names."""

ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)

MAX_TEMPLATE = 65_536
"""Characters of a chat template."""

PromptName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]

MAX_PROMPTS, MAX_INPUTS = 16, 8
MAX_MODEL_FILES = 64


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
    """One question put to the model about each image; `name` is its column in exports.

    The text may use the answers to prompts before it: `{describe}` stands for the answer to the prompt of that name.
    `image`: whether the model is shown the image, or asked about text alone. `system`, `sampling` and `format` are this
    prompt's own; what is left out is the task's, and without a format any text will do.
    """

    name: PromptName
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]
    system: Text | UnsetType = UNSET
    image: bool | UnsetType = UNSET
    sampling: Sampling | UnsetType = UNSET
    format: Format | UnsetType = UNSET

    @property
    def shows_image(self) -> bool:
        """Whether the model is shown the image."""
        return self.image is not False


class Input(Record, frozen=True):
    """Another task whose answers this one needs: `{stage.prompt}` stands for the answer to one of its `prompts`. An
    image is asked about once it has an answer there."""

    stage: PromptName
    tid: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    prompts: Annotated[tuple[PromptName, ...], msgspec.Meta(min_length=1, max_length=MAX_PROMPTS)]


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
    output: OutputPolicy | UnsetType = UNSET
    """What is made of the model's text, and which texts are no answer. Left out: only an empty one is not."""
    chat_template: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEMPLATE)] | UnsetType = UNSET
    """Jinja; instead of the model's own."""
    image_processor: Annotated[str, msgspec.Meta(max_length=4_096)] | UnsetType = UNSET
    """A JSON object: arguments of the model's image processor, such as {"max_pixels": 1003520}."""
    remote_code: bool | UnsetType = UNSET
    """The model needs Python code of its repository. A volunteer runs it only after naming this model."""
    engines: Annotated[tuple[EngineKind, ...], msgspec.Meta(min_length=1, max_length=8)] | UnsetType = UNSET
    """Whose results are taken; left out: those of any engine."""
    inputs: Annotated[tuple[Input, ...], msgspec.Meta(min_length=1, max_length=MAX_INPUTS)] | UnsetType = UNSET
    """Tasks whose answers it uses. Their ids are part of this one's: what is made of other answers is another task."""

    @property
    def needs(self) -> tuple[Input, ...]:
        """Tasks whose answers it uses."""
        return () if self.inputs is UNSET else self.inputs

    @property
    def policy(self) -> OutputPolicy:
        """What is made of the model's text."""
        return OutputPolicy() if self.output is UNSET else self.output

    @property
    def tid(self) -> bytes:
        """The task's id: the first 8 bytes of SHA-256 over its encoding."""
        return hashlib.sha256(encode(self)).digest()[:8]

    def sampling_of(self, prompt: Prompt) -> Sampling:
        """How this prompt's tokens are chosen."""
        return self.sampling if prompt.sampling is UNSET else prompt.sampling

    def system_of(self, prompt: Prompt) -> str:
        """The system text that goes before this prompt; may be empty."""
        return self.system if prompt.system is UNSET else prompt.system

    def takes(self, kind: EngineKind) -> bool:
        """Whether results of such engines are taken."""
        return self.engines is UNSET or kind in self.engines
