"""The tokens that a model reads as more than text, and texts of strangers without them.

What a dataset says of an image may hold the model's own tokens ("<image>", "<|im_end|>"), by chance or on purpose. As
text of a prompt they would make a second image, or end the turn and begin another one.

Always holds: a text is cut first, and then read in a time that does not grow with the number of tokens. Some models
have 6,000 ("<unused0>" and so on), and a regular expression would try all that begin with "<" at each "<".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from p2pcap.project.prompts import MAX_VALUE

PASSES = 8
"""How often tokens are taken out of a text that makes new ones where it closes up ("<im<image>age>")."""


class ControlTokens:
    """What a model reads as more than text: its tokenizer's special and added tokens (`ids`), and `others`."""

    def __init__(self, tokenizer: Any, others: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        added: dict[str, int] = tokenizer.get_added_vocab()
        special = {*tokenizer.all_special_tokens, *others}
        special |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
        texts = {text for text in special | set(filter(_looks_like_control, added)) if text.strip()}
        self.ids = {added[text] for text in texts if text in added} | set(tokenizer.all_special_ids)
        self._texts = texts
        self._lengths: dict[str, list[int]] = {}  # of the tokens by their first character, the longest first
        for first, length in sorted({(text[0], len(text)) for text in texts}, reverse=True):
            self._lengths.setdefault(first, []).append(length)

    def without(self, text: str) -> str:
        """The first MAX_VALUE characters of `text` with a blank in the place of each such token; empty when it hides
        them in each other too deeply."""
        text = text[:MAX_VALUE]
        for _ in range(PASSES):
            blanked = self._blanked(text)
            if blanked is None:
                return text
            text = blanked
        return ""

    def _blanked(self, text: str) -> str | None:
        """`text` with a blank for each token, of those that begin at one place the longest; None when it has none."""
        parts: list[str] = []
        end = 0
        for start, first in enumerate(text):
            if start >= end and first in self._lengths and (length := self._length_at(text, start)):
                parts += (text[end:start], " ")
                end = start + length
        return "".join([*parts, text[end:]]) if parts else None

    def _length_at(self, text: str, start: int) -> int:
        """How long the token is that begins here; 0 when none does."""
        for length in self._lengths[text[start]]:
            if text[start : start + length] in self._texts:
                return length
        return 0

    def in_prompt(self, head: Mapping[str, Any]) -> list[int]:
        """The special and added tokens of a rendered prompt, in their order."""
        tokens = head.get("prompt_token_ids")
        if tokens is None:
            tokens = self._tokenizer(head["prompt"], add_special_tokens=False)["input_ids"]
        return [token for token in tokens if token in self.ids]


def _looks_like_control(token: str) -> bool:
    """Whether an added token is markup ("<think>", "[INST]"), and not a word or blanks that the vocabulary lacked."""
    return token[:1] in ("<", "[") and token[-1:] in (">", "]")
