#!/usr/bin/env python3
"""Draws the pictures that the shapes model is trained, tested and shown on.

Every picture has exactly one right answer for each of the three prompts, so a caption can be compared with the truth
letter by letter. A picture is made from its split, seed and number alone: the same three give the same pixels, and the
two splits never share one. Only Pillow is needed.

    python models/shapes/pictures.py DIR --count 2000 --seed 7 --split held-out

writes the pictures to DIR/images/<folder>/ and the answers to DIR/truth.jsonl, one line a picture.
"""

import argparse
import hashlib
import json
import math
import random
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

DESCRIBE = "Describe the image."
NAME = "Name the objects."
BACKGROUND = "What is the background colour?"
PROMPTS = (DESCRIBE, NAME, BACKGROUND)

SPLITS = ("training", "held-out")
FOLDERS = ("garden", "harbour", "market", "workshop")
BACKGROUNDS = {"black": (14, 14, 14), "grey": (128, 128, 128), "white": (242, 242, 242)}
COLOURS = {
    "red": (214, 34, 34),
    "orange": (244, 138, 20),
    "yellow": (244, 222, 40),
    "green": (32, 160, 62),
    "blue": (40, 84, 220),
    "purple": (150, 44, 180),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
RADII = {"small": (0.135, 0.15), "big": (0.2, 0.215)}  # of the shorter side; the gap keeps the two words apart
COUNTS = ("one", "two", "three", "four")
CELLS = ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73))


@dataclass(frozen=True)
class Thing:
    """One drawn shape; the centre is in fractions of width and height, the radius of the shorter side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float

    def noun(self, *, sized: bool) -> str:
        """The thing with its article: "a big red circle", "an orange star"."""
        words = f"{self.size} {self.colour}" if sized else self.colour
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {self.shape}"


@dataclass(frozen=True)
class Picture:
    """A drawn picture and its one right answer to every prompt of PROMPTS."""

    image: Image.Image
    answers: dict[str, str]


def draw(split: str, seed: int, number: int) -> Picture:
    """The picture `number` of a split and seed: 128 to 320 pixels a side, aspect between 3:4 and 4:3."""
    if split not in SPLITS:
        raise ValueError(f"the split is one of {', '.join(SPLITS)}, not {split!r}")
    rng = random.Random(f"{split}/{seed}/{number}")
    background = rng.choice(tuple(BACKGROUNDS))
    if rng.random() < 0.75:
        things, description, names = _pair(rng)
    else:
        things, description, names = _several(rng)
    answers = {
        DESCRIBE: f"{description} on a {background} background.",
        NAME: f"{names}.",
        BACKGROUND: f"{background}.",
    }
    return Picture(_paint(rng, background, things), answers)


def _pair(rng: random.Random) -> tuple[list[Thing], str, str]:
    """Two things side by side or one above the other; the left or upper one is always named first."""
    across = rng.random() < 0.5
    things = [_thing(rng, *((place, 0.5) if across else (0.5, place))) for place in (0.25, 0.75)]
    first, second = things
    relation = "left of" if across else "above"
    description = f"{first.noun(sized=True)} {relation} {second.noun(sized=True)}"
    return things, description, f"{first.noun(sized=False)} and {second.noun(sized=False)}"


def _several(rng: random.Random) -> tuple[list[Thing], str, str]:
    """One to four alike things, each in its own quarter of the picture."""
    count = rng.randrange(len(COUNTS)) + 1
    shape, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
    radius = rng.uniform(0.15, 0.18)
    places = rng.sample(CELLS, count)
    things = [Thing(shape, colour, "", _near(rng, x), _near(rng, y), radius) for x, y in places]
    plural = "" if count == 1 else "es" if shape == "cross" else "s"
    words = f"{COUNTS[count - 1]} {colour} {shape}{plural}"
    return things, words, words


def _thing(rng: random.Random, x: float, y: float) -> Thing:
    size = rng.choice(tuple(RADII))
    shape, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
    return Thing(shape, colour, size, _near(rng, x), _near(rng, y), rng.uniform(*RADII[size]))


def _near(rng: random.Random, place: float) -> float:
    return place + rng.uniform(-0.02, 0.02)


def _paint(rng: random.Random, background: str, things: list[Thing]) -> Image.Image:
    """Draws at twice the size and halves it, which smooths the edges."""
    width, height = _dimensions(rng)
    image = Image.new("RGB", (2 * width, 2 * height), _tint(rng, BACKGROUNDS[background], 10))
    pen = ImageDraw.Draw(image)
    for thing in things:
        centre = (2 * width * thing.x, 2 * height * thing.y)
        fill = _tint(rng, COLOURS[thing.colour], 12)
        _outline(pen, thing.shape, centre, 2 * min(width, height) * thing.radius, fill)
    return image.reduce(2)


def _dimensions(rng: random.Random) -> tuple[int, int]:
    longer = rng.randint(128, 320)
    shorter = round(longer * rng.uniform(0.75, 1.0))
    return (longer, shorter) if rng.random() < 0.5 else (shorter, longer)


def _tint(rng: random.Random, colour: tuple[int, int, int], spread: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, part + rng.randint(-spread, spread))) for part in colour)
    return red, green, blue


def _outline(
    pen: ImageDraw.ImageDraw, shape: str, centre: tuple[float, float], radius: float, fill: tuple[int, int, int]
) -> None:
    x, y = centre
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape == "cross":
        arm = radius * 0.34
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
    else:
        pen.polygon([(x + radius * dx, y + radius * dy) for dx, dy in _CORNERS[shape]], fill=fill)


def _corners(count: int, turn: float, inner: float = 1.0) -> list[tuple[float, float]]:
    """Corners of a regular figure on the unit circle; with `inner` below 1 every second corner is pulled in."""
    turns = [turn + 2 * math.pi * step / count for step in range(count)]
    reach = [1.0 if step % 2 == 0 else inner for step in range(count)]
    return [(r * math.sin(angle), -r * math.cos(angle)) for r, angle in zip(reach, turns, strict=True)]


_CORNERS = {
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": _corners(3, 0.0),
    "star": _corners(10, 0.0, 0.42),
}


def encode(picture: Picture, kind: str) -> bytes:
    """The picture as a file: `kind` is "jpg" or "png"."""
    out = BytesIO()
    if kind == "jpg":
        picture.image.save(out, "JPEG", quality=90)
    else:
        picture.image.save(out, "PNG")
    return out.getvalue()


def write(folder: Path, split: str, seed: int, count: int) -> None:
    """Writes `count` pictures under folder/images and their answers to folder/truth.jsonl; one in five is a PNG.

    A line of the answers has `path` (below folder/images), `sha256` (of the file) and `captions` (prompt to answer).
    """
    for name in FOLDERS:
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
    with (folder / "truth.jsonl").open("w", encoding="utf-8") as truth:
        for number in range(count):
            picture = draw(split, seed, number)
            kind = "png" if number % 5 == 4 else "jpg"
            path = f"{FOLDERS[number % len(FOLDERS)]}/{number:06d}.{kind}"
            data = encode(picture, kind)
            (folder / "images" / path).write_bytes(data)
            line = {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "captions": picture.answers}
            truth.write(json.dumps(line) + "\n")


def main() -> None:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Draw pictures of shapes together with their true captions.")
    parser.add_argument("folder", type=Path, help="where to write images/ and truth.jsonl")
    parser.add_argument("--count", type=int, default=2000, help="how many pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="held-out", help="the model has seen only training")
    options = parser.parse_args()
    write(options.folder, options.split, options.seed, options.count)
    print(f"{options.count} pictures in {options.folder / 'images'}, answers in {options.folder / 'truth.jsonl'}")


if __name__ == "__main__":
    main()
