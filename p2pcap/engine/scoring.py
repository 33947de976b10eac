"""What a model thinks of an answer that somebody claims: the answer is read as part of the prompt, token by token.

Reading costs what a prompt costs, however long the answer took to make. The probabilities are those before sampling
settings; a task whose settings change what is likeliest (penalties, formats) has honest answers with margins too.

Always holds: a claim is a stranger's. What is not tokens of an answer never reaches the model: an image's token in it
would be taken for a second image.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from p2pcap.engine.base import Score
from p2pcap.errors import ImageError

ARGUMENTS: Mapping[str, Any] = {
    "max_tokens": 1,
    "temperature": 0.0,
    "prompt_logprobs": 1,
    "detokenize": False,
    "flat_logprobs": True,
    "skip_reading_prefix_cache": False,
}
"""Of vLLM's SamplingParams: one token is the least it makes, and `prompt_logprobs` 1 tells the likeliest token beside
the claimed one; as flat numbers, or vLLM makes three objects for each token of the prompt. What is kept of a prompt is
not read again, which vLLM would do: system text and image are read once for all prompts of an image."""

ANEW: Mapping[str, Any] = {**ARGUMENTS, "skip_reading_prefix_cache": True}
"""The same, reading all tokens: nothing is told of those that are not read."""


class Told(Protocol):
    """What vLLM says of the tokens of a prompt (vllm.logprobs.FlatLogprobs): those of place i, the prompt's own and the
    likeliest, from `start_indices[i]` up to `end_indices[i]` of the other two lists; none of the first place."""

    start_indices: list[int]
    end_indices: list[int]
    token_ids: list[int]
    logprobs: list[float]


def must_be_answer(ids: Sequence[int], vocabulary: int, special: Collection[int], ends: Collection[int]) -> None:
    """Raises ImageError unless `ids` could be the tokens of an answer: some, all of the `vocabulary`, and none that the
    model reads as more than text (`special`), but for an end of text as the last one."""
    if not ids:
        raise unscorable("The answer has no tokens.")
    if not all(0 <= token < vocabulary for token in ids):
        raise unscorable("The model has no such token.")
    if any(token in special for token in ids[:-1]) or (ids[-1] in special and ids[-1] not in ends):
        raise unscorable("The answer has a token that is no text.")


def is_read(ids: Sequence[int], tokens: int, cached: int) -> bool:
    """Whether `ids` were read at the end of a prompt of so many tokens, of which the first `cached` were not: an engine
    that made this answer itself may keep some of it."""
    return cached < tokens - len(ids)


def score(ids: Sequence[int], told: Told | None) -> Score:
    """The score of `ids`, given what vLLM says of every token of the prompt that ends with them."""
    starts = told.start_indices[-len(ids) :] if told is not None else []
    if told is None or [told.token_ids[start] for start in starts if start < len(told.token_ids)] != list(ids):
        raise unscorable("This engine does not tell the probabilities of a prompt's tokens.")
    logprobs = tuple(told.logprobs[start] for start in starts)
    spans = zip(starts, told.end_indices[-len(ids) :], strict=True)
    likeliest = (max(told.logprobs[start:end]) for start, end in spans)
    return Score(tuple(best - own for best, own in zip(likeliest, logprobs, strict=True)), logprobs)


def unscorable(reason: str) -> ImageError:
    """Why there is no score."""
    return ImageError("unscorable", reason)
