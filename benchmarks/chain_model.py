"""A model of a real architecture whose answers have the lengths that a benchmark wants, made on the spot.

`python -m benchmarks.chain_model DIRECTORY LAYERS SHORTEST LONGEST [DTYPE]` writes an Idefics3 (the architecture of
SmolVLM) as wide as SmolVLM-256M, with the tokenizer and the processor of the shapes model. Its weights are random but
for a few: the language model's layers cost what such layers cost, and only the first changes anything. It looks at the
image and picks the first token by it; from then on each token has one successor, along a chain that ends in the end of
the text. So every engine gives an image an answer of the same length, and lengths are spread evenly over the images.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Idefics3Config, Idefics3ForConditionalGeneration

from models.shapes.pictures import draw
from p2pcap.errors import ConfigError

SHAPES = Path(__file__).resolve().parent.parent / "models" / "shapes"
WIDTH, INNER, HEADS, SHARED_HEADS, HEAD = 576, 1_536, 9, 3, 64
"""Of SmolVLM-256M's language model."""

VOCABULARY, EOS, POSITIONS = 512, 2, 512
STRENGTH = 32.0
"""Of a token's own direction: well above what the image adds to it."""

OFFSET = 64.0
"""What the end of every prompt gives all first tokens alike, in standard deviations of what an image gives them each:
one of them comes before any other token, also for a picture that is like no other."""

LEAST_SPREAD = 1e-3
"""Of the largest variance of a direction; in those of less the pictures are held to be alike."""

CALIBRATED = 192
"""Pictures by which the directions that tell images apart are found."""

CHAIN_FROM = WIDTH // 2
"""Hidden dimensions from here on belong to the chain's tokens; the first HEAD belong to the image."""

TEXT = HEAD
"""The dimension of all text that is not of the chain, such as a prompt's end."""


def main() -> None:
    """Make the model; the same arguments give the same one."""
    directory, layers, shortest, longest, *dtype = sys.argv[1:]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(SHAPES, local_files_only=True)
    model = _random(int(layers))
    with torch.no_grad():
        _silence(model)
        starts = int(longest) - int(shortest) + 1
        _link(model, _chain(processor.tokenizer, int(longest)), starts, _looks(model, processor))
    model.to(getattr(torch, dtype[0] if dtype else "float32")).save_pretrained(directory)
    processor.save_pretrained(directory)


def _random(layers: int) -> Any:
    shipped = Idefics3Config.from_pretrained(SHAPES, local_files_only=True)
    ends = {"bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": 0}
    text = {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": SHARED_HEADS,
        "head_dim": HEAD,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": False,
        **ends,
    }
    config = Idefics3Config(
        vision_config=shipped.vision_config.to_dict(),
        text_config=text,
        image_token_id=shipped.image_token_id,
        scale_factor=shipped.scale_factor,
        tie_word_embeddings=False,
        **ends,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.update(**ends)
    return model.eval()


def _silence(model: Any) -> None:
    """No layer changes anything, but that the first one's first head takes the mean over all places seen so far of the
    image's dimensions, in which no text has a part."""
    for layer in model.model.text_model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    first = model.model.text_model.layers[0].self_attn
    first.q_proj.weight.zero_()
    first.v_proj.weight.zero_()
    first.v_proj.weight[:HEAD, :HEAD] = torch.eye(HEAD)
    first.o_proj.weight[:HEAD, :HEAD] = torch.eye(HEAD)
    model.model.text_model.embed_tokens.weight.zero_()
    model.lm_head.weight.zero_()


def _chain(tokenizer: Any, longest: int) -> list[int]:
    """`longest` tokens of letters in a fixed, shuffled order. No prompt ends in one of them, but in a colon."""
    texts = {token: tokenizer.decode([token]) for token in range(VOCABULARY) if token not in tokenizer.all_special_ids}
    usable = [token for token, text in texts.items() if text.strip().isalpha() and text.isascii()]
    if len(usable) < longest:
        raise ConfigError(f"The tokenizer has {len(usable)} tokens for a chain of {longest}.")
    return [usable[place] for place in torch.randperm(len(usable))[:longest].tolist()]


def _looks(model: Any, processor: Any) -> torch.Tensor:
    """What the first layer takes from some pictures, a row each."""
    pictures = [draw("training", 0, number).image for number in range(CALIBRATED)]
    pixels = processor.image_processor([[one] for one in pictures], return_tensors="pt")
    features = model.model.get_image_features(pixels["pixel_values"], pixels.get("pixel_attention_mask"))
    rows = features.pooler_output.reshape(CALIBRATED, -1, WIDTH)
    seen: torch.Tensor = model.model.text_model.layers[0].input_layernorm(rows)
    return seen[..., :HEAD].mean(1)


def _link(model: Any, chain: list[int], starts: int, looks: torch.Tensor) -> None:
    """The chain's tokens, each with its successor, and the first `starts` of them as what an image may begin with."""
    embedding, head = model.model.text_model.embed_tokens.weight, model.lm_head.weight
    embedding[:, TEXT] = 1.0
    embedding[chain, TEXT] = 0.0
    head[chain[:starts], TEXT] = OFFSET
    for place, token in enumerate(chain):
        embedding[token, CHAIN_FROM + place] = STRENGTH
        head[chain[place + 1] if place + 1 < len(chain) else EOS, CHAIN_FROM + place] = 1.0
    directions = torch.nn.functional.normalize(torch.randn(starts, HEAD)) @ _whitening(looks)
    offsets = -directions @ looks.mean(0)
    head[chain[:starts], :HEAD] = directions + torch.outer(offsets, _constant(looks))


def _whitening(looks: torch.Tensor) -> torch.Tensor:
    """Makes of any direction one in which the pictures differ by 1 (standard deviation), of those in which they differ
    at all."""
    values, vectors = torch.linalg.eigh(torch.cov(looks.T))
    kept = values > values.max() * LEAST_SPREAD
    return vectors[:, kept] @ torch.diag(values[kept].rsqrt()) @ vectors[:, kept].T


def _constant(looks: torch.Tensor) -> torch.Tensor:
    """The direction in which all pictures have 1, nearly."""
    return torch.linalg.lstsq(looks, torch.ones(len(looks), 1)).solution[:, 0]


if __name__ == "__main__":
    main()
