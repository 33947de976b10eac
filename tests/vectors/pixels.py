"""Writes pixels.json, the SHA-256 of the pixels that each file of tests/data/images has once it is decoded and scaled.

    python -m tests.vectors.pixels          the hashes, from the files as they are
    python -m tests.vectors.pixels files    the files too: other versions of Pillow encode them differently

The pictures look to a codec as photographs do. A list of hashes stands for the edges in EDGES, in order.
"""

import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from p2pcap.engine.images import decode

FILE = Path(__file__).parent / "pixels.json"
FOLDER = Path(__file__).parents[1] / "data" / "images"
EDGES = (0, 100, 64, 20)
SIZE = (163, 121)
TALL = (48, 80)


def text() -> str:
    """The content of pixels.json."""
    hashes = {path.name: digests(path.read_bytes()) for path in sorted(FOLDER.iterdir())}
    return json.dumps({"edges": EDGES, "files": hashes}, indent=1) + "\n"


def digests(file: bytes) -> list[str]:
    """The hashes of its pixels at each edge; size and mode count as well."""
    return [digest(decode(file, edge)) for edge in EDGES]


def digest(image: Image.Image) -> str:
    """The hash of a picture."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def photograph(size: tuple[int, int] = SIZE) -> Image.Image:
    """Detail at every scale, and colours; the same each time."""
    width, height = size
    picture = Image.new("RGB", size)
    for scale in (60, 20, 6, 2, 1):
        grain = [_noise(width // scale + 2, height // scale + 2, 3 * scale + band) for band in range(3)]
        layer = Image.merge("RGB", [each.resize(size, Image.Resampling.BICUBIC) for each in grain])
        picture = layer if scale == 60 else Image.blend(picture, layer, 0.3)
    return picture


def files() -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    yield from _jpegs()
    yield from _pngs()
    yield from _tiffs()
    yield from _others()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of that kind."""
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def oriented(number: int) -> Image.Exif:
    """EXIF that says nothing else."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def png(width: int, height: int, depth: int, colour: int, rows: bytes, more: bytes = b"") -> bytes:
    """A PNG of any kind; `rows` are the unfiltered scanlines, each after a zero, and `more` chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.frombytes("L", (width, height), hashlib.shake_128(bytes([seed])).digest(width * height))


def _alpha(size: tuple[int, int]) -> Image.Image:
    return Image.linear_gradient("L").resize(size)


def _jpegs() -> Iterator[tuple[str, bytes]]:
    photo = photograph()
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"sampled-{name}.jpg", encoded(photo, "JPEG", quality=80, subsampling=sampling)
    yield "progressive.jpg", encoded(photo, "JPEG", quality=80, progressive=True)
    yield "grey.jpg", encoded(photo.convert("L"), "JPEG", quality=80)
    cmyk = encoded(ImageChops.invert(photo.resize((120, 90)).convert("CMYK")), "JPEG", quality=80)
    yield "cmyk.jpg", cmyk
    adobe = cmyk.index(b"Adobe")
    yield "ycck.jpg", cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :]
    for number in range(1, 9):
        yield f"turned-{number}.jpg", encoded(photograph(TALL), "JPEG", quality=80, exif=oriented(number))
    pages = [photograph(TALL).transpose(turn) for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180)]
    yield "several.mpo.jpg", encoded(photograph(TALL), "MPO", save_all=True, append_images=pages)


def _pngs() -> Iterator[tuple[str, bytes]]:
    photo = photograph((100, 75))
    grey = photo.convert("L")
    yield "rgb.png", encoded(photo, "PNG", exif=oriented(6))
    yield "bit.png", encoded(photo.convert("1"), "PNG")
    yield "palette.png", encoded(photo.quantize(64), "PNG", transparency=bytes(range(0, 256, 4)))
    yield "alpha.png", encoded(Image.merge("LA", (grey, _alpha(grey.size))), "PNG")
    deep = _noise(2 * 60, 45, 90).tobytes()
    yield "grey-16.png", png(60, 45, 16, 0, _rows(deep, 120))
    yield "rgb-16.png", png(20, 45, 16, 2, _rows(deep, 120))
    yield "tall.png", encoded(photo.resize((20, 150)), "PNG")  # scaled by other steps in Pillow 12 and 13
    yield "shade.png", encoded(grey.quantize(4).convert("L"), "PNG", transparency=grey.getpixel((0, 0)))
    small = photo.resize((60, 45))
    yield "animated.png", encoded(small, "PNG", save_all=True, append_images=[small.rotate(180)])


def _rows(data: bytes, width: int) -> bytes:
    return b"".join(b"\0" + data[start : start + width] for start in range(0, len(data), width))


def _tiffs() -> Iterator[tuple[str, bytes]]:
    photo = photograph((70, 52))
    grey = photo.convert("L")
    floats = grey.convert("F").point(lambda value: value * 0.01 - 0.5)
    yield "lzw.tif", encoded(photo, "TIFF", compression="tiff_lzw", exif=oriented(8))
    yield "jpeg.tif", encoded(photo, "TIFF", compression="jpeg", quality=80)
    yield "group4.tif", encoded(photo.convert("1"), "TIFF", compression="group4")
    yield "cmyk.tif", encoded(photo.convert("CMYK"), "TIFF", compression="tiff_deflate")
    yield "lab.tif", encoded(Image.merge("LAB", photo.resize((20, 15)).split()), "TIFF")
    yield "float.tif", encoded(floats, "TIFF", compression="tiff_deflate")
    yield "grey-32.tif", encoded(grey.convert("I").point(lambda value: value * 70_000), "TIFF")
    yield "grey-16.tif", encoded(Image.frombytes("I;16", (30, 45), _noise(60, 45, 91).tobytes()), "TIFF")
    yield "pages.tif", encoded(photo, "TIFF", save_all=True, append_images=[grey], compression="tiff_deflate")


def _others() -> Iterator[tuple[str, bytes]]:
    photo = photograph((160, 120))
    clear = photo.copy()
    clear.putalpha(_alpha(photo.size))
    yield "lossy.webp", encoded(photo, "WEBP", quality=80, exif=oriented(3))
    yield "lossless.webp", encoded(clear.resize((80, 60)), "WEBP", lossless=True)
    yield "alpha.webp", encoded(clear, "WEBP", quality=80)
    yield "animated.webp", encoded(photo, "WEBP", save_all=True, append_images=[photo.rotate(180)], quality=60)
    yield "alpha.avif", encoded(clear, "AVIF", quality=70)
    yield "turned.avif", encoded(photo, "AVIF", quality=70, subsampling="4:4:4", exif=oriented(6))
    yield "lossy.jp2", encoded(photo, "JPEG2000", irreversible=True, quality_layers=[20])
    yield "plain.bmp", encoded(photo.resize((60, 45)), "BMP")
    moving = photo.resize((80, 60)).quantize(32)
    yield "animated.gif", encoded(moving, "GIF", save_all=True, append_images=[moving.rotate(180)], transparency=5)


if __name__ == "__main__":
    if sys.argv[1:] == ["files"]:
        FOLDER.mkdir(exist_ok=True)
        for _name, _content in files():
            (FOLDER / _name).write_bytes(_content)
    FILE.write_text(text(), encoding="ascii")
