#!/usr/bin/env python3
"""Trains the shapes model: a tiny Idefics3 (the architecture of SmolVLM) that captions drawn shapes.

The demo and the tests need a vision-language model that unmodified vLLM loads and that no hub has to serve. This one
is made from nothing: pictures from pictures.py, a byte-level tokenizer trained on their captions, random first weights.
One thread and fixed seeds make a run repeat bit for bit on one kind of CPU; another kind reaches the same accuracy with
other bits.

    python models/shapes/train.py --out DIR

writes the plain Hugging Face layout (config, tokenizer, processor, safetensors).
"""

import argparse
import math
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from pictures import PROMPTS, draw, encode
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

EDGE = 64  # pixels; the processor squashes every picture to EDGE x EDGE
PATCH = 8  # pixels; large patches leave the shapes too coarse to be learned in minutes
SHUFFLE = 2  # pixel shuffle: SHUFFLE x SHUFFLE patches become one image token
IMAGE_TOKENS = (EDGE // PATCH) ** 2 // SHUFFLE**2
VOCABULARY = 512
SPECIALS = (
    "<pad>",
    "<|im_start|>",
    "<end_of_utterance>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<unk>",
)
# The sentence fills the first 32-token block, so that vLLM can reuse it and the image for a picture's other prompts.
SYSTEM = "You look at one picture of drawn shapes and answer the question about it in a few plain words."
# The loop over message.content is what tells vLLM that the template takes image parts.
TEMPLATE = (
    "<|im_start|>"
    "{% if messages[0]['role'] != 'system' %}System: " + SYSTEM + "<end_of_utterance>\n{% endif %}"
    "{% for message in messages %}{{ message['role'] | capitalize }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
IGNORED = -100  # a label that adds nothing to the loss

PICTURES, STEPS, BATCH = 32_000, 4_500, 32
PEAK_RATE, WARM_UP = 1.5e-3, 100
NOISE = 0.03  # standard deviation, on pixels from -1 to 1
PROMPT_TURNS = (0, 0, 1, 0, 0, 2)  # the long answer teaches the most


@dataclass(frozen=True)
class Examples:
    """Pictures as pixels (N, 3, EDGE, EDGE) uint8, and for each prompt its tokens and labels (N, length) int64."""

    pixels: torch.Tensor
    tokens: list[torch.Tensor]
    labels: list[torch.Tensor]


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text goes through, the captions' own words are single tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=["<image>", "<fake_token_around_image>", "<global-img>"],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """The processor that vLLM will use: no splitting into tiles, so an image is always IMAGE_TOKENS tokens."""
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": EDGE},
        max_image_size={"longest_edge": EDGE},
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=TEMPLATE)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """One vision layer and two language layers, all 128 wide: fewer layers learn the shapes sooner."""
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": EDGE,
        "patch_size": PATCH,
    }
    text = {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,  # vLLM on a CPU takes 32, 64, 80, 96, ...
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        **ends,
    }
    config = Idefics3Config(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=SHUFFLE,
        tie_word_embeddings=False,
        **ends,
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.update(**ends)
    return model


def examples(processor: Idefics3Processor, split: str, seed: int, count: int) -> Examples:
    """Draws `count` pictures and turns them and their answers into tensors, exactly as vLLM will see them."""
    pictures = [draw(split, seed, number) for number in range(count)]
    pixels = torch.stack([_pixels(processor, encode(picture, "jpg")) for picture in pictures])
    tokens, labels = [], []
    for prompt in PROMPTS:
        head = _head(processor, prompt)
        tails = [processor.tokenizer.encode(f" {picture.answers[prompt]}<end_of_utterance>") for picture in pictures]
        longest = max(len(tail) for tail in tails)
        padding = [[processor.tokenizer.pad_token_id] * (longest - len(tail)) for tail in tails]
        tokens.append(torch.tensor([head + tail + pad for tail, pad in zip(tails, padding, strict=True)]))
        ignored = [[IGNORED] * (longest - len(tail)) for tail in tails]
        before = [IGNORED] * len(head)
        labels.append(torch.tensor([before + tail + after for tail, after in zip(tails, ignored, strict=True)]))
    return Examples(pixels, tokens, labels)


def _pixels(processor: Idefics3Processor, file: bytes) -> torch.Tensor:
    image = Image.open(BytesIO(file)).convert("RGB")
    values = processor.image_processor([[image]], return_tensors="pt")["pixel_values"][0, 0]
    return ((values + 1) * 127.5).round().to(torch.uint8)


def _head(processor: Idefics3Processor, prompt: str) -> list[int]:
    """Tokens of everything before the answer, the image's places included."""
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    blank = Image.new("RGB", (EDGE, EDGE), "red")
    tokens: list[int] = processor(text=text, images=[[blank]])["input_ids"][0]
    return tokens


def train(model: Idefics3ForConditionalGeneration, data: Examples, steps: int, batch: int) -> None:
    """AdamW with a short warm-up and a cosine; every step shows one batch with one of the prompts."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    started, order = time.monotonic(), torch.randperm(len(data.pixels))
    for step in range(steps):
        first = step * batch % len(order)
        if first + batch > len(order):
            first, order = 0, torch.randperm(len(data.pixels))
        chosen = order[first : first + batch]
        loss = _loss(model, data, chosen, PROMPT_TURNS[step % len(PROMPT_TURNS)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1:5d}  loss {loss.item():.4f}  {time.monotonic() - started:4.0f} s", flush=True)


def _rate(step: int, steps: int) -> float:
    """The learning rate's share of its peak: up over WARM_UP steps, then half a cosine down to nothing."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def _loss(model: Idefics3ForConditionalGeneration, data: Examples, chosen: torch.Tensor, prompt: int) -> torch.Tensor:
    pixels = _normalised(data.pixels[chosen])
    pixels = pixels + NOISE * torch.randn_like(pixels)
    logits = model(input_ids=data.tokens[prompt][chosen], pixel_values=pixels).logits
    labels = data.labels[prompt][chosen]
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3, EDGE, EDGE) uint8 to the model's (N, 1 image, 3, EDGE, EDGE) from -1 to 1."""
    return pixels.unsqueeze(1).float() / 127.5 - 1


@torch.no_grad()
def exact(model: Idefics3ForConditionalGeneration, data: Examples) -> list[float]:
    """For each prompt the share of pictures whose greedy answer is right to the letter.

    A greedy answer equals the truth exactly when every token of the truth is the likeliest after those before it.
    """
    model.eval()
    shares = []
    for tokens, labels in zip(data.tokens, data.labels, strict=True):
        right = 0
        for chosen in torch.arange(len(tokens)).split(64):
            logits = model(input_ids=tokens[chosen], pixel_values=_normalised(data.pixels[chosen])).logits
            wanted = labels[chosen][:, 1:]
            hit = (logits[:, :-1].argmax(-1) == wanted) | (wanted == IGNORED)
            right += int(hit.all(-1).sum())
        shares.append(right / len(tokens))
    return shares


def main() -> None:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Train the shapes model from nothing on one CPU core.")
    parser.add_argument("--out", type=Path, required=True, help="where to write the model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="how many pictures to draw for training")
    parser.add_argument("--held-out", type=int, default=1_000, help="how many to measure it on")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    answers = [f" {text}" for number in range(2000) for text in draw("training", 0, number).answers.values()]
    # Repeated, so that the words around every answer are whole tokens too: half as many tokens a picture.
    tokenizer = build_tokenizer(answers + 100 * [*PROMPTS, f"System: {SYSTEM}", "User: ", "Assistant:"])
    processor = build_processor(tokenizer)
    model = build_model(tokenizer)
    print(f"{sum(weights.numel() for weights in model.parameters()):,} parameters")
    data = examples(processor, "training", 0, options.pictures)
    train(model, data, options.steps, BATCH)
    processor.save_pretrained(options.out)
    model.save_pretrained(options.out)
    held_out = examples(processor, "held-out", 0, options.held_out)
    for prompt, share in zip(PROMPTS, exact(model, held_out), strict=True):
        print(f"{share:7.2%} of {options.held_out} held-out pictures exactly right: {prompt}")


if __name__ == "__main__":
    main()
