import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageDraw

from p2pcap.engine.images import MAX_PIXELS, decode
from p2pcap.errors import ImageError
from p2pcap.project.records import MAX_IMAGE


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def near(pixel: Any, wanted: tuple[int, int, int], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, wanted, strict=True))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises width x height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


PHOTO = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_becomes_rgb_at_the_edge_asked_for(kind: str) -> None:
    image = decode(encoded(PHOTO, kind), 160)
    assert (image.mode, image.size) == ("RGB", (160, 120))


def test_nothing_is_scaled_without_an_edge_or_up() -> None:
    assert decode(encoded(PHOTO, "JPEG"), 0).size == (640, 480)
    assert decode(encoded(PHOTO, "JPEG"), 1000).size == (640, 480)


def test_a_thin_image_keeps_at_least_a_pixel() -> None:
    assert decode(encoded(Image.new("RGB", (3000, 2)), "PNG"), 100).size == (100, 1)


def test_a_draft_looks_like_the_full_decoding() -> None:
    drafted = decode(encoded(PHOTO.resize((2560, 1920)), "JPEG", quality=95), 160)
    full = decode(encoded(PHOTO.resize((2560, 1920)), "PNG"), 160)
    pairs = zip(drafted.tobytes(), full.tobytes(), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= 6


def test_the_orientation_in_exif_is_applied() -> None:
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 40, 100), fill="red")  # the left side
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise, so the left side is on top
    upright = decode(encoded(image, "JPEG", exif=exif, quality=95), 100)
    assert upright.size == (50, 100)
    assert near(upright.getpixel((25, 5)), (255, 0, 0))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG"),
        (Image.new("LA", (20, 20), (0, 0)), "PNG"),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 0)), "WEBP"),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 0)), "GIF"),
    ],
    ids=["rgba", "la", "webp", "gif"],
)
def test_transparency_lies_on_white(image: Image.Image, kind: str) -> None:
    assert near(decode(encoded(image, kind), 0).getpixel((10, 10)), (255, 255, 255))


def test_half_transparency_is_mixed_with_white() -> None:
    pixel = decode(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG"), 0).getpixel((10, 10))
    assert near(pixel, (127, 127, 127))


def test_cmyk_becomes_the_colour_it_stands_for() -> None:
    cyan = encoded(Image.new("CMYK", (20, 20), (255, 0, 0, 0)), "JPEG", quality=95)
    assert near(decode(cyan, 0).getpixel((10, 10)), (0, 255, 255))


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = encoded(Image.new("I;16", (20, 20), 128 * 256), "PNG")
    assert near(decode(grey, 0).getpixel((10, 10)), (128, 128, 128), by=1)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    assert near(
        decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), 0).getpixel((5, 5)), (255, 0, 0)
    )


JPEG, PNG = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", "empty"),
        (b"\0", "undecodable"),
        (b"this is no image at all" * 100, "undecodable"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 5000, "undecodable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "undecodable"),
        (encoded(PHOTO, "PPM"), "undecodable"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:40], "undecodable"),
        (bomb(40_000, 40_000), "too-large"),
        (bomb(12_000, 11_000), "too-large"),
    ],
    ids=[
        "empty",
        "byte",
        "text",
        "jpeg-head",
        "eps",
        "unlisted",
        "jpeg-cut",
        "png-cut",
        "png-head",
        "bomb",
        "over-limit",
    ],
)
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_a_faulty_file_is_named_by_its_fault(file: bytes, code: str) -> None:
    with pytest.raises(ImageError) as fault:
        decode(file, 64)
    assert fault.value.code == code
    assert "\n" not in fault.value.reason
    assert "/" not in fault.value.reason


def test_a_file_too_long_is_not_opened() -> None:
    with pytest.raises(ImageError, match="too-large"):
        decode(JPEG + bytes(MAX_IMAGE), 64)


def test_damage_anywhere_never_raises_anything_else() -> None:
    for file in (JPEG, PNG, *(encoded(PHOTO.resize((64, 48)), kind) for kind in FORMATS)):
        step = max(1, len(file) // 60)
        for place in range(0, len(file), step):
            damaged = file[:place] + bytes([file[place] ^ 0xFF]) + file[place + 1 :]
            try:
                image = decode(damaged, 32)
            except ImageError:
                continue
            assert image.width * image.height <= MAX_PIXELS
