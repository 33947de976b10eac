"""From an answer's tokens to its text and back, as vLLM does it when it generates; no model is asked.

With it a claim's tokens are held against its text: tokens that a model holds likely prove nothing about another text.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from p2pcap.engine.base import Finish, Spelt
from p2pcap.project.sampling import Sampling


class Spelling:
    """The spelling of one prompt's answers. `ends` are the tokens with which the model ends a text; `bound`: the answer
    is held to a format, and vLLM may end it without a token. The model has a `vocabulary` of so many tokens."""

    def __init__(self, tokenizer: Any, vocabulary: int, sampling: Sampling, ends: Collection[int], bound: bool) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._sampling = sampling
        self._stops = frozenset(sampling.stop_token_ids or ())
        self._ends = frozenset(ends)
        self._bound = bound

    def spell(self, ids: Sequence[int], finish: Finish) -> Spelt:
        """The text that vLLM gives for these tokens, and how they end. There are some."""
        sampling = self._sampling
        if len(ids) > sampling.max_tokens or not all(0 <= token < self._vocabulary for token in ids):
            return Spelt("")
        keeps_stop = sampling.include_stop_str_in_output is True
        written = ids[:-1] if ids[-1] in self._stops and not keeps_stop else ids
        text = self._text(written)
        place, stop = min(
            ((place, stop) for stop in sampling.stop if (place := text.find(stop)) >= 0), default=(-1, "")
        )
        if place >= 0:
            text = text[: place + (len(stop) if keeps_stop else 0)]
        ended = finish != "stop" or place >= 0 or ids[-1] in self._stops | self._ends
        short = finish == "length" and len(ids) < sampling.max_tokens
        return Spelt(text, ended, short, certain=not self._bound)

    def cut(self, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """The text as tokens: as it stands, and as it stands after a blank, which goes with the blanks around an
        answer."""
        end = (min(self._ends),) if finish == "stop" and self._ends and not self._sampling.stop else ()
        readings = dict.fromkeys(self._ids(before + text) for before in (" ", ""))
        room = self._sampling.max_tokens
        return tuple((*reading[: room - len(end)], *end) for reading in readings if reading)

    def _text(self, ids: Sequence[int]) -> str:
        skips = self._sampling.skip_special_tokens is not False
        text: str = self._tokenizer.decode(ids, skip_special_tokens=skips, clean_up_tokenization_spaces=False)
        return text

    def _ids(self, text: str) -> tuple[int, ...]:
        encode: Callable[..., list[int]] = self._tokenizer.encode
        return tuple(encode(text, add_special_tokens=False))
