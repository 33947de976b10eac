import json
import math
import struct
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageDraw

from p2pcap.engine.images import FORMATS, MAX_PIXELS, READERS, decode
from p2pcap.errors import ImageError
from p2pcap.project.items import MAX_IMAGE
from tests.vectors import pixels
from tests.vectors.pixels import chunk, encoded, oriented, png


def near(pixel: Any, wanted: tuple[int, int, int], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, wanted, strict=True))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises width x height pixels."""
    return png(width, height, 8, 2, b"\0" * 1000)


def screen(width: int, height: int) -> bytes:
    """A GIF of one pixel on a logical screen of width x height."""
    file = encoded(Image.new("P", (1, 1)), "GIF")
    return file[:6] + struct.pack("<HH", width, height) + file[10:]


PHOTO = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
VECTORS = json.loads(pixels.FILE.read_text())


@pytest.mark.parametrize("name", VECTORS["files"])
def test_the_pixels_are_those_of_every_node(name: str) -> None:
    assert pixels.digests((pixels.FOLDER / name).read_bytes()) == VECTORS["files"][name]


def test_the_vectors_are_the_files_and_all_formats_are_among_them() -> None:
    assert tuple(reader.format for reader in READERS) == FORMATS
    assert [path.name for path in sorted(pixels.FOLDER.iterdir())] == sorted(VECTORS["files"])
    assert tuple(VECTORS["edges"]) == pixels.EDGES
    found = set()
    for path in pixels.FOLDER.iterdir():
        with Image.open(path) as image:
            found.add(image.format)
    assert found == {*FORMATS, "MPO"}


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


CORNERS = {
    1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1),
    5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1),
}  # fmt: skip
"""Where the corner of the first row and column is to be shown, right and down, by EXIF 2.32, table 6."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "LZW"])
@pytest.mark.parametrize("number", CORNERS)
def test_the_orientation_in_exif_is_applied(kind: str, number: int) -> None:
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 40, 40), fill="red")
    options: dict[str, Any] = {"compression": "tiff_lzw"} if kind == "LZW" else {}
    file = encoded(image, "TIFF" if kind == "LZW" else kind, exif=oriented(number), **options)
    upright = decode(file, 100)
    assert upright.size == ((100, 50) if number < 5 else (50, 100))
    right, down = CORNERS[number]
    found = upright.getpixel((5 + right * (upright.width - 10), 5 + down * (upright.height - 10)))
    assert near(found, (255, 0, 0), by=40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_not_lost_for_its_damaged_exif(kind: str) -> None:
    assert decode(encoded(PHOTO, kind, exif=b"Exif\0\0no TIFF"), 64).size == (64, 48)


def test_a_tall_image_is_scaled_by_one_order_of_steps() -> None:
    image = pixels.photograph((40, 300))
    across = image.resize((13, 300), Image.Resampling.LANCZOS)
    assert decode(encoded(image, "PNG"), 100).tobytes() == across.resize((13, 100), Image.Resampling.LANCZOS).tobytes()


def test_profiles_are_left_aside() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert decode(encoded(PHOTO, "PNG", icc_profile=profile), 0).tobytes() == PHOTO.tobytes()


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG"),
        (Image.new("LA", (20, 20), (0, 0)), "PNG"),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 0)), "WEBP"),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 0)), "GIF"),
        (Image.new("P", (20, 20), 0), "PNG"),
        (Image.new("L", (20, 20), 0), "PNG"),
        (Image.new("PA", (20, 20), (0, 0)), "TIFF"),
    ],
    ids=["rgba", "la", "webp", "gif", "palette", "shade", "palette-alpha"],
)
def test_transparency_lies_on_white(image: Image.Image, kind: str) -> None:
    options = {"transparency": 0} if image.mode in ("P", "L") else {}
    assert near(decode(encoded(image, kind, **options), 0).getpixel((10, 10)), (255, 255, 255))


def test_half_transparency_is_mixed_with_white() -> None:
    pixel = decode(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG"), 0).getpixel((10, 10))
    assert near(pixel, (127, 127, 127))


def test_colours_that_were_multiplied_with_their_transparency_are_not_mixed_twice() -> None:
    red = Image.new("RGBA", (20, 20), (128, 0, 0, 128))  # half of pure red
    unassociated, associated = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))  # TIFF 6.0, section 18
    file = encoded(red, "TIFF")
    assert unassociated in file
    assert near(decode(file.replace(unassociated, associated), 0).getpixel((10, 10)), (255, 127, 127))


def test_cmyk_becomes_the_colour_it_stands_for() -> None:
    cyan = encoded(Image.new("CMYK", (20, 20), (255, 0, 0, 0)), "JPEG", quality=95)
    assert near(decode(cyan, 0).getpixel((10, 10)), (0, 255, 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bit_grey_keeps_its_brightness(kind: str) -> None:
    grey = encoded(Image.new("I;16", (20, 20), 128 * 256), kind)
    assert near(decode(grey, 0).getpixel((10, 10)), (128, 128, 128), by=1)


def test_sixteen_bits_a_colour_become_eight() -> None:
    row = b"\0" + struct.pack(">3H", 0xFFFF, 0x8080, 0x0101) * 3
    assert decode(png(3, 2, 16, 2, row * 2), 0).getpixel((1, 1)) == (255, 128, 1)


def test_sixteen_bit_grey_with_a_transparent_shade_is_shown_as_it_is() -> None:
    row = b"\0" + struct.pack(">3H", 0, 0x8000, 0xFFFF)
    image = decode(png(3, 1, 16, 0, row, chunk(b"tRNS", b"\x80\0")), 0)
    assert [image.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_of_no_known_range_are_stretched(mode: str) -> None:
    image = Image.new(mode, (3, 1))
    for x, value in enumerate((-2_000_000, 0, 2_000_000)):
        image.putpixel((x, 0), value)
    shown = decode(encoded(image, "TIFF"), 0)
    assert [shown.getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]  # type: ignore[index]
    assert decode(encoded(Image.new(mode, (2, 2), 7), "TIFF"), 0).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_named(value: float) -> None:
    image = Image.new("F", (2, 2), 1.0)
    image.putpixel((0, 0), value)
    with pytest.raises(ImageError, match="no finite numbers"):
        decode(encoded(image, "TIFF"), 0)


def test_one_bit_is_black_and_white() -> None:
    image = decode(encoded(Image.linear_gradient("L").convert("1"), "TIFF", compression="group4"), 0)
    assert set(image.tobytes()) == {0, 255}


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_the_first_of_several_pictures_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(decode(file, 0).getpixel((5, 5)), (255, 0, 0))


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
        (b"\0", "not-image"),
        (b"this is no image at all" * 100, "not-image"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "not-image"),
        (b'{"error": "rate limit"}', "not-image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 5000, "undecodable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not-image"),
        (encoded(PHOTO, "PPM"), "not-image"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:40], "undecodable"),
        (bomb(40_000, 40_000), "too-large"),
        (bomb(12_000, 11_000), "too-large"),
        (bomb(50_000, 50_000), "too-large"),
        (screen(65_535, 65_535), "too-large"),
        (png(8, 8, 8, 0, b"")[:-12] + struct.pack(">I", 2**31 - 1) + b"IDAT", "truncated"),
        (png(8, 8, 8, 0, b"", struct.pack(">I", 2**31 - 1) + b"iCCP"), "truncated"),
    ],
    ids=[
        "empty",
        "byte",
        "text",
        "page",
        "json",
        "jpeg-head",
        "eps",
        "unlisted",
        "jpeg-cut",
        "png-cut",
        "png-head",
        "bomb",
        "over-limit",
        "larger-bomb",
        "screen",
        "endless-chunk",
        "endless-profile",
    ],
)
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
