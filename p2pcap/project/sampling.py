"""How an answer is made and what is made of it: sampling, the form it must have, and what is no answer.

Everything here decides what a caption says, so it is the maintainer's and part of the task. Records hold no floats:
ratios are in thousandths.

Always holds: a field that a later version added is left out of the encoding while it is not set, so the tasks of
earlier versions keep their ids.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.record import Count, Milli, Record, Text

Signed = Annotated[int, msgspec.Meta(ge=-100_000, le=100_000)]
"""Thousandths of a number that may be below 0."""

Penalty = Annotated[int, msgspec.Meta(ge=-2_000, le=2_000)]
Token = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""The number of a token in the model's vocabulary."""

Marker = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Bias(Record, frozen=True):
    """`add` (thousandths) is added to a token's logit."""

    token: Token
    add: Signed


class Sampling(Record, frozen=True):
    """How the next token is chosen. Temperature 0 is greedy; above it `seed` makes one GPU repeatable.

    The names and meanings are those of vLLM's SamplingParams; where one is left out, vLLM's default holds. On a CPU
    vLLM 0.32 takes no seeds (p2pcap.engine.device.takes_seeds), so there only temperature 0 is repeatable.
    """

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=8_192)] = 256
    temperature: Milli = 0
    top_p: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1_000
    repetition_penalty: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    seed: Count = 0
    stop: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)] = ()
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    min_p: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | UnsetType = UNSET
    presence_penalty: Penalty | UnsetType = UNSET
    frequency_penalty: Penalty | UnsetType = UNSET
    min_tokens: Annotated[int, msgspec.Meta(ge=0, le=8_192)] | UnsetType = UNSET
    stop_token_ids: Annotated[tuple[Token, ...], msgspec.Meta(max_length=32)] | UnsetType = UNSET
    bad_words: Annotated[tuple[Marker, ...], msgspec.Meta(max_length=128)] | UnsetType = UNSET
    allowed_token_ids: Annotated[tuple[Token, ...], msgspec.Meta(max_length=4_096)] | UnsetType = UNSET
    logit_bias: Annotated[tuple[Bias, ...], msgspec.Meta(max_length=256)] | UnsetType = UNSET
    ignore_eos: bool | UnsetType = UNSET
    include_stop_str_in_output: bool | UnsetType = UNSET
    skip_special_tokens: bool | UnsetType = UNSET


class Format(Record, frozen=True):
    """The form that an answer must have; the engine can make no other.

    "json": any JSON object; "schema": JSON that fits the JSON Schema in `text`; "regex": what the regular expression in
    `text` matches as a whole; "choice": one of `choices`.
    """

    kind: Literal["json", "schema", "regex", "choice"]
    text: Annotated[str, msgspec.Meta(max_length=16_384)] = ""
    choices: Annotated[tuple[Marker, ...], msgspec.Meta(max_length=1_000)] = ()


class OutputPolicy(Record, frozen=True):
    """What is made of the model's text, in this order, and which texts are no answer. Blanks around it always go.

    `cut`: the text ends before the first of these. `refusals`: a text that begins with one of these, whatever the
    case, is a refusal. `loops`: a text that repeats itself to its end is no answer. `least`: fewer characters are none.
    `whole`: nor is a text that was cut at max_tokens. What is no answer is asked for once more, and then the image ends
    as an error.
    """

    cut: Annotated[tuple[Marker, ...], msgspec.Meta(max_length=32)] = ()
    refusals: Annotated[tuple[Marker, ...], msgspec.Meta(max_length=64)] = ()
    loops: bool = False
    least: Annotated[int, msgspec.Meta(ge=1, le=8_192)] = 1
    whole: bool = False
