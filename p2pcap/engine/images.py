"""From the bytes of an image file to the picture a model is shown. Runs in the engine's process.

The steps are fixed, because two nodes that scale an image differently may caption it differently: apply the EXIF
orientation, lay transparency on white, convert to RGB, scale down with LANCZOS to the task's longest edge. A JPEG is
decoded at a fraction of its size where that leaves no less than the edge (measured: 35 ms instead of 154 ms for 12
megapixels to 512).

Always holds: the size written in the header is checked before a pixel is decoded, and whatever Pillow makes of hostile
bytes becomes an ImageError whose reason names no path.
"""

from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from p2pcap.errors import ImageError
from p2pcap.project.records import MAX_IMAGE

MAX_PIXELS = 120_000_000
"""Pixels of an image; twice the largest common camera sensor, and 360 MB once decoded."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000")
"""What is decoded. Pillow knows forty more, some of which start other programs."""

Image.init()
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
_KNOWN = tuple(name for name in FORMATS if name in Image.OPEN)  # some builds of Pillow lack the newer ones
Image.init()  # all readers now: two threads that make Pillow load them on first use meet a half-filled table
_WHITE = (255, 255, 255)


def decode(file: bytes, edge: int) -> Image.Image:
    """The picture in RGB, its longest edge at most `edge` pixels (0: as it is; never scaled up).

    Raises ImageError with the code "empty", "too-large", "truncated" or "undecodable".
    """
    if not file:
        raise ImageError("empty", "The file has no bytes.")
    if len(file) > MAX_IMAGE:
        raise ImageError("too-large", f"The file has {len(file)} bytes; at most {MAX_IMAGE} are decoded.")
    try:
        with Image.open(BytesIO(file), formats=_KNOWN) as image:
            _check_size(image.width, image.height)
            return _prepared(image, edge)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError("too-large", f"The image has too many pixels; at most {MAX_PIXELS} are decoded.") from error
    except UnidentifiedImageError as error:
        raise ImageError("undecodable", "The bytes are no image in a known format.") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        raise _damaged(error) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError("too-large", f"The image is {width} x {height} pixels; at most {MAX_PIXELS} are decoded.")


def _prepared(image: Image.Image, edge: int) -> Image.Image:
    scaled = _scaled(image.size, edge)
    image.draft("RGB", scaled)  # only a JPEG knows how
    upright = _flattened(ImageOps.exif_transpose(image))
    scaled = _scaled(upright.size, edge)  # again: turning it upright may have swapped width and height
    return upright if upright.size == scaled else upright.resize(scaled, Image.Resampling.LANCZOS)


def _scaled(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Width and height once the longest edge is at most `edge`; each at least one pixel."""
    longest = max(size)
    if not 0 < edge < longest:
        return size
    return max(1, round(size[0] * edge / longest)), max(1, round(size[1] * edge / longest))


def _flattened(image: Image.Image) -> Image.Image:
    """The image in RGB: transparent parts white, 16-bit grey brought down to 8."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, _WHITE)
        ground.paste(image, mask=image.getchannel("A"))
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")


def _damaged(error: Exception) -> ImageError:
    if "truncated" in str(error).lower():
        return ImageError("truncated", "The file ends before the image does.")
    return ImageError("undecodable", f"The image cannot be decoded ({type(error).__name__}).")
