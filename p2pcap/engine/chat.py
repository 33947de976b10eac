"""What is written to a server with OpenAI's interface, and what its answers say. Pure.

The fields that OpenAI documents are always said; those that vLLM added are said when the task sets them, and to a
server that is known to be vLLM also where the task leaves them at "none", since it would put the model's own defaults
in their place.

Always holds: what a dataset or a model says of an image cannot read as a control token of a chat template, not even
together with what stands around it; and of an answer only its shape is believed: of its text LONGEST characters are
kept, none of its other words leaves this module, and a text is one line for people only after `one_line`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.engine.output import FILTERED
from p2pcap.project.prompts import MAX_VALUE, fill, places
from p2pcap.project.sampling import Format, Sampling
from p2pcap.project.task import Prompt, Task

REASON_CHARACTERS = 200
LONGEST = 131_072
"""Characters of an answer that are kept: twice as many as a row takes (p2pcap.ledger.records, MAX_ANSWER), so that one
that is cut here is still seen to be too long. 16 such answers, 4 bytes a character, fit a frame to the node."""

MAX_SEED = 2**31 - 1
"""Servers keep seeds in 32 bits, with or without a sign."""

SEED, LIMIT, NEW_LIMIT = "seed", "max_tokens", "max_completion_tokens"

_SCALED = ("presence_penalty", "frequency_penalty", "min_p")
_PLAIN = (
    "top_k", "min_tokens", "stop_token_ids", "bad_words", "allowed_token_ids", "ignore_eos",
    "include_stop_str_in_output", "skip_special_tokens",
)  # fmt: skip

_CONTROL = re.compile(r"<(?=([^<>\s]{1,64}>))|\[(?=(/?[A-Z_]{2,32}\]))")
"""Where the control tokens of chat templates begin, and the rest of each: <|im_end|>, </s>, <image>, [/INST]."""

_OTHER = "another reason"
_STOPS = {"stop", "eos", "eos_token", "stop_sequence", "end_turn"}
_CUTS = {"length", "max_tokens", "model_length"}


@dataclass(frozen=True)
class Dialect:
    """What one server is known to understand. `limit`: its name for the most tokens of an answer; `seeds`: it takes
    seeds; `vllm`: it says that it is vLLM."""

    limit: str = LIMIT
    seeds: bool = True
    vllm: bool = False


PLAIN = Dialect()
"""Of a server that was not asked yet."""


def engine_class(model: str) -> bytes:
    """8 bytes that are equal for servers of the same model, by the name it is served under: "openai" and 2 bytes of the
    name's SHA-256. Nothing is known of their number format or version, so equal answers are not promised."""
    return b"openai" + hashlib.sha256(model.encode()).digest()[:2]


def fields(sampling: Sampling, form: Format | UnsetType, dialect: Dialect) -> dict[str, Any]:
    """The fields of a request that say how its answer is made, but for its seed."""
    given = msgspec.structs.asdict(sampling)
    said: dict[str, Any] = {
        dialect.limit: sampling.max_tokens,
        "temperature": sampling.temperature / 1_000,
        "top_p": sampling.top_p / 1_000,
    }
    if sampling.stop:
        said["stop"] = list(sampling.stop)
    if sampling.repetition_penalty != 1_000 or dialect.vllm:
        said["repetition_penalty"] = sampling.repetition_penalty / 1_000
    if dialect.vllm:
        said |= {"top_k": 0, "min_p": 0.0}
    said |= {name: given[name] / 1_000 for name in _SCALED if given[name] is not UNSET}
    said |= {name: given[name] for name in _PLAIN if given[name] is not UNSET}
    if sampling.logit_bias is not UNSET:
        said["logit_bias"] = {str(bias.token): bias.add / 1_000 for bias in sampling.logit_bias}
    return said | (_form(form) if form is not UNSET else {})


def _form(form: Format) -> dict[str, Any]:
    """The field for the form of an answer; OpenAI has none for regular expressions and choices, vLLM has."""
    match form.kind:
        case "json":
            return {"response_format": {"type": "json_object"}}
        case "schema":
            schema = {"name": "answer", "strict": True, "schema": msgspec.json.decode(form.text)}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "regex":
            return {"structured_outputs": {"regex": form.text}}
        case "choice":
            return {"structured_outputs": {"choice": list(form.choices)}}


def request(
    task: Task,
    number: int,
    values: Mapping[str, str],
    picture: str,
    *,
    model: str,
    dialect: Dialect,
    seed: int = 0,
) -> dict[str, Any]:
    """The body of the request for prompt `number`. `picture` is a data URL, which a prompt of text alone leaves out."""
    prompt = task.prompts[number]
    sampling = task.sampling_of(prompt)
    body: dict[str, Any] = {"model": model, "messages": _messages(task, number, values, picture)}
    body |= fields(sampling, prompt.format, dialect)
    if dialect.seeds and sampling.temperature > 0:
        body[SEED] = seed & MAX_SEED
    return body | _of_model(task)


def _of_model(task: Task) -> dict[str, Any]:
    """What the task wants changed about the model itself; only vLLM has fields for it."""
    changed: dict[str, Any] = {}
    if task.chat_template is not UNSET:
        changed["chat_template"] = task.chat_template
    if task.image_processor is not UNSET:
        changed["mm_processor_kwargs"] = msgspec.json.decode(task.image_processor)
    return changed


def _messages(task: Task, number: int, values: Mapping[str, str], picture: str) -> list[dict[str, Any]]:
    prompt, names = task.prompts[number], places(task, number)
    plain = {name: without_control(value[:MAX_VALUE]) for name, value in values.items()}
    text = _filled(prompt.text, names, plain)
    content: Any = text
    if prompt.shows_image:
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": text}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system := task.system_of(prompt):
        messages.insert(0, {"role": "system", "content": _filled(system, names, plain)})
    return messages


def _filled(text: str, names: Sequence[str], values: Mapping[str, str]) -> str:
    """The text with the values put in; with none of them where they make a control token together, or with the text
    around them ("<|im_" and "end|>" in neighbouring fields)."""
    filled, empty = fill(text, names, values), fill(text, names, {})
    return empty if _control_tokens(filled) - _control_tokens(empty) else filled


def _control_tokens(text: str) -> Counter[tuple[str, ...]]:
    """What may be a control token, and how often."""
    return Counter(_CONTROL.findall(text))


def without_control(text: str) -> str:
    """The text with a blank in everything that may be a control token. The server's tokenizer is not at hand, so this
    goes by how such tokens are written."""
    return _CONTROL.sub(lambda found: found[0] + " ", text)


def needs(task: Task) -> frozenset[str]:
    """What a server must understand for this task, as words that are equal for tasks that need the same."""
    return frozenset(word for prompt in task.prompts for word in _needs_of(task, prompt))


def _needs_of(task: Task, prompt: Prompt) -> set[str]:
    words: set[str] = {*fields(task.sampling_of(prompt), prompt.format, PLAIN), *_of_model(task)}
    form = set() if prompt.format is UNSET else {f"format {prompt.format.kind} {prompt.format.text}"}
    return words | form | {"image" if prompt.shows_image else "text"}


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True)
class Said:
    """What a server answered to a question: text, why it ended, the tokens it read and made (0: it does not tell)."""

    text: str
    finish: str
    read: int
    made: int


def read(body: bytes, most: int) -> Said:
    """An answer to a question that allowed `most` tokens. Raises ValueError for anything that is none.

    Reasoning beside the answer is left aside. A server that does not say why it ended was cut if it made all tokens.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("no answer to a question") from error
    if not answer.choices:
        raise ValueError("an answer without a choice")
    choice, usage = answer.choices[0], answer.usage if isinstance(answer.usage, dict) else {}
    read, made = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    text = _kept(_text(choice.message.content))
    if choice.message.refusal and not text:
        return Said(_kept(choice.message.refusal), FILTERED, read, made)
    return Said(text, _finish(choice.finish_reason, made >= most), read, made)


def _text(content: str | Sequence[Any] | None) -> str:
    """A content that is a list has its texts in parts of one type or another."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _kept(text: str) -> str:
    """As much of an answer as has a use. One that is cut ends in a mark that is no blank: without the blanks around it
    it must not pass for a short one."""
    text = text if len(text) <= LONGEST else text.strip()
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _finish(reason: str | None, full: bool) -> str:
    """A word of ours, as it goes on into an error row that is signed."""
    if reason is None:
        return "length" if full else "stop"
    word = reason.lower()
    return "stop" if word in _STOPS else "length" if word in _CUTS else FILTERED if word == FILTERED else _OTHER


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def models(body: bytes) -> list[tuple[str, str]] | None:
    """The models that a server lists, each with its owner; None for what is no list of models."""
    try:
        listed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    entries = listed.get("data") if isinstance(listed, dict) else listed
    if not isinstance(entries, list):
        return None
    cards = [card for card in entries if isinstance(card, dict) and isinstance(card.get("id"), str)]
    return [(card["id"], str(card.get("owned_by", ""))) for card in cards]


def complaint(body: bytes) -> str:
    """What an error's body says, on one line."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "" if b"<html" in body[:1_024].lower() else one_line(body[:1_024].decode("utf-8", "replace"))
    for _ in range(3):
        if isinstance(said, dict):
            said = next((said[name] for name in ("error", "message", "detail") if said.get(name)), "")
        elif isinstance(said, list):
            said = said[0] if said else ""
    return one_line(said if isinstance(said, str) else msgspec.json.encode(said).decode())


def named(text: str, body: Mapping[str, Any]) -> str:
    """Which field of the request an error names; "" for none. The longer of two that fit, as one name ends another."""
    found = [name for name in body if re.search(rf"(?<![a-z_]){re.escape(name)}(?![a-z_])", text, re.IGNORECASE)]
    return max((name for name in found if name not in ("model", "messages")), key=len, default="")


def one_line(text: str) -> str:
    """The beginning of a stranger's text, on one line and without characters that move a terminal's cursor."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:4_096]).split())[
        :REASON_CHARACTERS
    ]
