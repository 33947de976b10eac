"""Bytes under zstd: what a stranger packed is opened without trusting what it says of itself."""

import zstandard

from p2pcap.errors import UntrustedError

LEVEL = 3
"""zstd's default: bodies are small, and a higher level saves less than 3 % of them."""


def packed(raw: bytes) -> bytes:
    """One zstd frame over `raw`, which it declares the length of."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(raw)


def unpacked(data: bytes, most: int, what: str) -> bytes:
    """The bytes in the frame `data`, at most `most`. Raises UntrustedError, calling it `what`, when it is none."""
    try:
        # zstandard allocates what the frame declares, whatever max_output_size says: check the declaration first.
        declared = zstandard.get_frame_parameters(data).content_size
        if not 0 < declared <= most:
            raise UntrustedError(f"The {what} declares no length, or more than {most} bytes.")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=declared, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UntrustedError(f"The {what} cannot be decompressed: {error}.") from error
    return raw
