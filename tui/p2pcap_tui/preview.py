"""From the bytes of an image file to pixels for the terminal. Runs on a thread, when somebody asked to see the image.

The file is a stranger's. Always holds: the size that its header says is checked before a pixel is decoded, only the
formats that captions are made of are decoded (p2pcap.engine.images), and of the picture no more is kept than fits the
pane. One picture is decoded at a time.
"""

import threading

from p2pcap_tui.half_cells import Pixels, fit

MAX_PIXELS = 50_000_000
"""Pixels of an image that is shown, by its header: 150 MB once decoded, in a program beside the one that works."""

_decoding = threading.Lock()


def pixels_of(file: bytes, columns: int, lines: int) -> Pixels:
    """The picture, small enough for so many columns and lines of cells. Raises ImageError."""
    from PIL import Image

    from p2pcap.engine.images import decode

    with _decoding:
        picture = decode(file, 4 * max(columns, 2 * lines), MAX_PIXELS)
        size = fit(picture.width, picture.height, columns, lines)
        small = picture.resize(size, Image.Resampling.BILINEAR)
        return Pixels(*size, small.tobytes())
