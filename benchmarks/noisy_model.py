"""A model with noise on its weights, made on the spot: less certain of its words than the one it is made of.

`python -m benchmarks.noisy_model SOURCE DIRECTORY NOISE FLAT` adds normal noise to every matrix of the language model,
NOISE times the matrix's own standard deviation, and divides its logits by FLAT; everything else is as in SOURCE.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, HEAD = "model.safetensors", "lm_head.weight"


def main() -> None:
    """Make the model; the same arguments give the same one."""
    source, directory = map(Path, sys.argv[1:3])
    noise, flat = map(float, sys.argv[3:])
    torch.manual_seed(0)
    directory.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, directory)
    weights = load_file(source / WEIGHTS)
    noisy = {name: _noisy(name, weight, noise) for name, weight in sorted(weights.items())}
    noisy[HEAD] = noisy[HEAD] / flat
    save_file(noisy, directory / WEIGHTS, {"format": "pt"})


def _noisy(name: str, weight: torch.Tensor, noise: float) -> torch.Tensor:
    if "text_model" not in name or weight.dim() < 2:
        return weight
    return (weight + noise * weight.std() * torch.randn(weight.shape)).contiguous()


if __name__ == "__main__":
    main()
