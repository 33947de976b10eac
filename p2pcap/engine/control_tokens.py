"""The tokens that a model reads as more than text, and texts of strangers without them.

What a dataset says of an image may hold the model's own tokens ("<image>", "<|im_end|>"), by chance or on purpose. As
text of a prompt they would make a second image, or end the turn and begin another one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

PASSES = 8
"""How often tokens are taken out of a text that makes new ones where it closes up ("<im<image>age>")."""


class ControlTokens:
    """What a model reads as more than text: its tokenizer's special and added tokens, and `others`."""

    def __init__(self, tokenizer: Any, others: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        added: dict[str, int] = tokenizer.get_added_vocab()
        special = {*tokenizer.all_special_tokens, *others}
        special |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
        texts = {text for text in special | set(filter(_looks_like_control, added)) if text.strip()}
        self._ids = {added[text] for text in texts if text in added} | set(tokenizer.all_special_ids)
        self._any = re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")

    def without(self, text: str) -> str:
        """`text` with a blank in the place of each such token; empty when it hides them in each other too deeply."""
        for _ in range(PASSES):
            text, found = self._any.subn(" ", text)
            if not found:
                return text
        return ""

    def in_prompt(self, head: Mapping[str, Any]) -> list[int]:
        """The special and added tokens of a rendered prompt, in their order."""
        tokens = head.get("prompt_token_ids")
        if tokens is None:
            tokens = self._tokenizer(head["prompt"], add_special_tokens=False)["input_ids"]
        return [token for token in tokens if token in self._ids]


def _looks_like_control(token: str) -> bool:
    """Whether an added token is markup ("<think>", "[INST]"), and not a word or blanks that the vocabulary lacked."""
    return token[:1] in ("<", "[") and token[-1:] in (">", "]")
