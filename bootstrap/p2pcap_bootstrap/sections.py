"""The sections of project.yaml that become parts of the task: sampling, format, prompts.

Here ratios are plain numbers; in the signed records they are thousandths, and what has its default is left out, so that
a task that says a default and one that is silent have the same id.

Always holds: a section that was read is within the limits of its record.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.sampling import Bias, Marker, Sampling, Token

LEAST = 0.001
"""The least ratio above 0 that thousandths can say."""

HOTTEST = 2.0
"""vLLM takes no higher temperature (SamplingParams._verify_args in vLLM 0.32)."""

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
        return msgspec.structs.replace(base, **_said(self))

    def record(self) -> Sampling:
        """The record of a section that leaves out nothing but defaults."""
        said = {name: value for name, value in _said(self).items() if value != getattr(DEFAULTS, name)}
        return Sampling(**{name: _signed(name, value) for name, value in said.items()})


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

    `schema` is a JSON Schema, written as YAML, or the path of a file that holds one as JSON.
    """

    json: bool = False
    schema: dict[str, Any] | Written | UnsetType = UNSET
    regex: Written | UnsetType = UNSET
    choice: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | UnsetType = UNSET


class PromptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of the `prompts`. What it leaves out is the task's own."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]
    system: Annotated[str, msgspec.Meta(max_length=8_192)] | UnsetType = UNSET
    image: bool = True
    sampling: SamplingFile = SamplingFile()
    format: FormatFile = FormatFile()


def milli(number: float) -> int:
    """A ratio in thousandths."""
    return round(number * 1_000)


def _said(section: SamplingFile) -> dict[str, Any]:
    """The keys that a section does not leave out, with their values."""
    return {name: value for name, value in msgspec.structs.asdict(section).items() if value is not UNSET}


def _signed(name: str, value: Any) -> Any:
    """A setting as records hold it."""
    if name == "logit_bias":
        return tuple(Bias(token, milli(add)) for token, add in sorted(value.items()))
    return milli(value) if isinstance(value, float) else value
