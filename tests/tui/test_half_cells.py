"""Pictures in half cells, and what becomes of hostile image files."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from p2pcap.errors import ImageError
from p2pcap_tui.half_cells import Pixels, Run, fit, lines_of
from p2pcap_tui.preview import MAX_PIXELS, pixels_of

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(width: int, height: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), RED).save(file, form)
    return file.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A PNG whose header says so much, and which has next to nothing in it."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0" * 100)) + part(b"IEND", b"")


@given(st.integers(1, 9_000), st.integers(1, 9_000), st.integers(1, 200), st.integers(1, 60))
def test_a_picture_fits_its_pane_and_is_never_made_larger(width: int, height: int, columns: int, lines: int) -> None:
    wide, high = fit(width, height, columns, lines)
    assert 1 <= wide <= min(columns, width)
    assert 1 <= high <= min(2 * lines, height)


def test_two_pixels_are_a_cell() -> None:
    pixels = Pixels(3, 3, bytes(RED * 3 + BLUE * 2 + RED + BLUE * 3))
    assert lines_of(pixels) == [[Run(2, RED, BLUE), Run(1, RED, RED)], [Run(3, BLUE, None)]]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_image_becomes_pixels_of_the_pane(form: str) -> None:
    pixels = pixels_of(encoded(640, 480, form), 40, 10)
    assert (pixels.width, pixels.height, len(pixels.data)) == (26, 20, 3 * 26 * 20)
    assert [sum(cell.cells for cell in line) for line in lines_of(pixels)] == [26] * 10


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", "empty"),
        (b"\x1b[2J no image", "not-image"),
        (encoded(64, 64)[:100], "truncated"),
        (png_that_says(10_000, 10_000), "too-large"),
        (png_that_says(60_000, 60_000), "too-large"),
    ],
)
def test_a_file_that_is_no_image_or_too_large_is_not_decoded(file: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        pixels_of(file, 40, 10)
    assert caught.value.code == code
    assert MAX_PIXELS < 100_000_000
