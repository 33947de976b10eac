"""From the bytes of an image file to the picture a model is shown. Runs in a decoder's process (p2pcap.engine.decoder).

The steps are fixed, because two nodes that scale an image differently may caption it differently: take the first frame,
scale 16-bit grey down to 8 bits, lay transparency on white, convert to RGB, scale down with LANCZOS to the task's
longest edge, turn it as its EXIF orientation says. A JPEG is decoded at a fraction of its size where that leaves no
less than the edge (measured: 35 ms instead of 154 ms for 12 megapixels to 512).

Colour profiles are left aside. Models were trained on pictures whose profiles were left aside, and what lcms makes of a
profile is one more thing that may differ between two machines and one more parser of strangers' bytes.

The same bytes give the same pixels with every Pillow from 12.0 to 13.0 as its project builds it for x86-64: the hashes
in tests/vectors/pixels.json hold for all of them. A Pillow that somebody built with other libraries, or for another
kind of processor, may give other pixels.

Always holds: the size written in the header is checked before a pixel is decoded, and whatever Pillow makes of hostile
bytes becomes an ImageError whose reason names no path. Only what the operating system refuses stays what it is.
"""

import copy
import math
import warnings
from io import BytesIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from p2pcap.errors import ImageError
from p2pcap.project.items import MAX_IMAGE

MAX_PIXELS = 120_000_000
"""Pixels of an image; twice the largest common camera sensor, and 360 MB once decoded."""

READERS = (
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
"""What is decoded. Pillow knows forty formats more, some of which start other programs."""

FORMATS = tuple(str(reader.format) for reader in READERS)
"""Their names in Pillow."""

LATER = copy, ImageCms, MpoImagePlugin
"""What Pillow imports in the middle of some images. Imported now, since a decoder opens no file any more."""

Image.preinit()
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # checked by Pillow whenever a header is read, of a later frame too
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is a decoder for each core

_PREFIX = 16
"""Bytes by which Pillow's readers know their format."""

_ORIENTATION = 0x0112
"""The tag of EXIF and TIFF."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What shows an image of that orientation upright (EXIF 2.32, table 6)."""

_WHITE = (255, 255, 255)


def decode(file: bytes, edge: int, pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in RGB, its longest edge at most `edge` pixels (0: as it is; never scaled up). A file that says it
    has more than `pixels` is not decoded.

    Raises ImageError with the code "empty", "too-large", "not-image", "truncated" or "undecodable". Not for two threads
    at once: what Pillow warns of is silenced for the whole process meanwhile.
    """
    _check_file(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(file), formats=FORMATS) as image:
                if image.width * image.height > pixels:
                    raise ImageError("too-large", f"The image has too many pixels; at most {pixels} are decoded.")
                return _prepared(image, edge)
    except (ImageError, ImportError):  # a missing module is not the image's fault
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too-large", f"The image has too many pixels; at most {MAX_PIXELS} are decoded.") from error
    except MemoryError as error:
        raise ImageError("too-large", "Decoding the image takes too much memory.") from error
    except UnidentifiedImageError as error:
        raise ImageError("undecodable", "The file begins as an image does and goes on as none.") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:  # but this comes from the machine
            raise
        raise _damaged(error) from error


def _check_file(file: bytes) -> None:
    if not file:
        raise ImageError("empty", "The file has no bytes.")
    if len(file) > MAX_IMAGE:
        raise ImageError("too-large", f"The file has {len(file)} bytes; at most {MAX_IMAGE} are decoded.")
    if not any(_begins(file[:_PREFIX], name) for name in FORMATS):
        raise ImageError("not-image", f"The bytes are no image; what is decoded is {', '.join(sorted(FORMATS))}.")


def _begins(prefix: bytes, name: str) -> bool:
    accept = Image.OPEN[name][1]
    return accept is None or bool(accept(prefix))


def _prepared(image: Image.Image, edge: int) -> Image.Image:
    image.draft("RGB", _scaled(image.size, edge))  # only a JPEG knows how
    image.load()
    turn = _turn(image)
    image = _flattened(image)
    image = _resized(image, _scaled(image.size, edge))
    return image if turn is None else image.transpose(turn)  # last: fewer pixels are left to be moved


def _scaled(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Width and height once the longest edge is at most `edge`; each at least one pixel."""
    longest = max(size)
    if not 0 < edge < longest:
        return size
    return max(1, round(size[0] * edge / longest)), max(1, round(size[1] * edge / longest))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Width first and height then, as two steps.

    Asked for both at once, Pillow 13 begins with the height where that is less work, and 12 does not (python-pillow/
    Pillow#9549); the numbers between the two are rounded, so the pixels differ.
    """
    for step in ((size[0], image.height), size):
        if image.size != step:
            image = image.resize(step, Image.Resampling.LANCZOS)
    return image


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What shows a loaded image upright. Pillow has done it with a TIFF; damaged EXIF costs no picture."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything, here too
        return None


def _flattened(image: Image.Image) -> Image.Image:
    """The image in RGB: transparent parts white, more than 8 bits brought down to 8."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        return _stretched(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, _WHITE)
        ground.paste(image, mask=image)
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Numbers of no known range, as greys: the least is black and the greatest white."""
    low, high = image.getextrema()
    assert isinstance(low, (int, float))  # not a pair for each band
    assert isinstance(high, (int, float))
    if not math.isfinite(high - low):
        raise ImageError("undecodable", "The image holds values that are no finite numbers.")
    scale = 255 / (high - low) if high > low else 0.0
    return image.point(lambda value: value * scale - low * scale).convert("L")


def _damaged(error: Exception) -> ImageError:
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return ImageError("truncated", "The file ends before the image does.")
    return ImageError("undecodable", f"The image cannot be decoded ({type(error).__name__}).")
