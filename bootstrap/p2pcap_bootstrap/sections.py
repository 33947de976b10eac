"""The sections of project.yaml that become parts of a task: sampling, format, prompts, stages.

Here ratios are plain numbers; in the signed records they are thousandths, and what has its default is left out, so that
a task that says a default and one that is silent have the same id.

Always holds: a section that was read is within the limits of its record.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.records import MAX_STAGES
from p2pcap.project.sampling import Bias, Marker, OutputPolicy, Sampling, Token
from p2pcap.project.task import MAX_PROMPTS, EngineKind

LEAST = 0.001
"""The least ratio above 0 that thousandths can say."""

HOTTEST = 2.0
"""vLLM takes no higher temperature (SamplingParams._verify_args in vLLM 0.32)."""

MAX_LIST = 64
"""Texts in an answer with the format `list: true`."""

OF_MODEL: dict[str, Any] = {
    "revision": "",
    "quantization": "",
    "chat_template": "",
    "image_processor": {},
    "remote_code": False,
}
"""Keys that say something of one model, with their defaults: a stage with a model of its own takes them from nowhere
else."""

Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
Title = Annotated[str, msgspec.Meta(min_length=1)]
Revision = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")]
NumberFormat = Annotated[str, msgspec.Meta(pattern=r"^(auto|float32|float16|bfloat16)\Z")]
Quantization = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{0,32}\Z")]
Context = Annotated[int, msgspec.Meta(ge=0, le=1_048_576)]
Edge = Annotated[int, msgspec.Meta(ge=0, le=8_192)]
System = Annotated[str, msgspec.Meta(max_length=8_192)]
Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]
Written = Annotated[str, msgspec.Meta(min_length=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Added = Annotated[float, msgspec.Meta(ge=-100, le=100)]


class SamplingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `sampling` section, the task's or a prompt's. What a prompt's leaves out is the task's, and what the task's
    leaves out is in DEFAULTS."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=8_192)] | UnsetType = UNSET
    temperature: Annotated[float, msgspec.Meta(ge=0, le=HOTTEST)] | UnsetType = UNSET
    top_p: Annotated[float, msgspec.Meta(ge=LEAST, le=1)] | UnsetType = UNSET
    repetition_penalty: Annotated[float, msgspec.Meta(ge=LEAST, le=10)] | UnsetType = UNSET
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | UnsetType = UNSET
    stop: Annotated[tuple[Stop, ...], msgspec.Meta(max_length=8)] | UnsetType = UNSET
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType = UNSET
    presence_penalty: Penalty | UnsetType = UNSET
    frequency_penalty: Penalty | UnsetType = UNSET
    min_tokens: Annotated[int, msgspec.Meta(ge=0, le=8_192)] | UnsetType = UNSET
    stop_token_ids: Annotated[tuple[Token, ...], msgspec.Meta(max_length=32)] | UnsetType = UNSET
    bad_words: Annotated[tuple[Marker, ...], msgspec.Meta(max_length=128)] | UnsetType = UNSET
    allowed_token_ids: Annotated[tuple[Token, ...], msgspec.Meta(max_length=4_096)] | UnsetType = UNSET
    logit_bias: Annotated[dict[Token, Added], msgspec.Meta(max_length=256)] | UnsetType = UNSET
    ignore_eos: bool | UnsetType = UNSET
    include_stop_str_in_output: bool | UnsetType = UNSET
    skip_special_tokens: bool | UnsetType = UNSET

    def over(self, base: "SamplingFile") -> "SamplingFile":
        """This section, with what it leaves out taken from `base`."""
        return msgspec.structs.replace(base, **said(self))

    def record(self) -> Sampling:
        """The record of a section that leaves out nothing but defaults."""
        changed = {name: value for name, value in said(self).items() if value != getattr(DEFAULTS, name)}
        return Sampling(**{name: _signed(name, value) for name, value in changed.items()})


DEFAULTS = SamplingFile(
    max_tokens=256,
    temperature=0.0,
    top_p=1.0,
    repetition_penalty=1.0,
    seed=0,
    stop=(),
    top_k=0,
    min_p=0.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    min_tokens=0,
    stop_token_ids=(),
    bad_words=(),
    allowed_token_ids=(),
    logit_bias={},
    ignore_eos=False,
    include_stop_str_in_output=False,
    skip_special_tokens=True,
)
"""vLLM's own, but for max_tokens and temperature."""


class FormatFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The `format` of a prompt's answers: one of these keys, or none for any text. An empty one is no form.

    `schema` is a JSON Schema, written as YAML, or the path of a file that holds one as JSON. `list` is a JSON array of
    texts, at most so many; true: MAX_LIST.
    """

    json: bool = False
    schema: dict[str, Any] | Written | UnsetType = UNSET
    regex: Written | UnsetType = UNSET
    choice: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | UnsetType = UNSET
    list: bool | Annotated[int, msgspec.Meta(ge=1, le=1_000)] = False


class PromptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of the `prompts`. What it leaves out is the task's own."""

    name: Word
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]
    system: System | UnsetType = UNSET
    image: bool = True
    sampling: SamplingFile = SamplingFile()
    format: FormatFile = FormatFile()


Prompts = Annotated[tuple[PromptFile, ...], msgspec.Meta(min_length=1, max_length=MAX_PROMPTS)]


class StageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of the `stages`. What it leaves out is the project's own, but for OF_MODEL where it names a model.

    `requires`: stages that an image needs an answer of first. `format`: that of its prompts which have none. `keep`:
    what its earlier tasks have answered is left as it is.
    """

    name: Word
    requires: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_STAGES)] = ()
    paused: bool | UnsetType = UNSET
    keep: bool | UnsetType = UNSET
    model: Title | UnsetType = UNSET
    revision: Revision | UnsetType = UNSET
    remote_code: bool | UnsetType = UNSET
    dtype: NumberFormat | UnsetType = UNSET
    quantization: Quantization | UnsetType = UNSET
    max_model_len: Context | UnsetType = UNSET
    chat_template: str | UnsetType = UNSET
    system: System | UnsetType = UNSET
    prompts: Prompts | UnsetType = UNSET
    format: FormatFile = FormatFile()
    sampling: SamplingFile = SamplingFile()
    output: OutputPolicy | UnsetType = UNSET
    image_edge: Edge | UnsetType = UNSET
    image_processor: dict[str, Any] | UnsetType = UNSET
    engines: tuple[EngineKind, ...] | UnsetType = UNSET


def milli(number: float) -> int:
    """A ratio in thousandths."""
    return round(number * 1_000)


def said(section: msgspec.Struct) -> dict[str, Any]:
    """The keys that a section does not leave out, with their values."""
    return {name: value for name, value in msgspec.structs.asdict(section).items() if value is not UNSET}


def _signed(name: str, value: Any) -> Any:
    """A setting as records hold it."""
    if name == "logit_bias":
        return tuple(Bias(token, milli(add)) for token, add in sorted(value.items()))
    return milli(value) if isinstance(value, float) else value
