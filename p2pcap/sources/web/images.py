"""Whether what a server sends for an image may be one.

Whether it is one is found out by whoever decodes it. What says itself that it is something else, a page as a rule that
stands where the image was, ends here.
"""

from p2pcap.errors import ImageError, ImageUnavailable
from p2pcap.sources.files import Reserve
from p2pcap.sources.web.client import Answer, too_large

NOT_IMAGES = (
    "text/html",
    "text/css",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/pdf",
    "application/xhtml+xml",
    "audio/",
    "video/",
)
"""Content types of what is no image. Many servers say text/plain, or nothing, of images."""

NOT_OPENINGS = (b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<?xml", b"<svg", b"{", b"[")
"""What pages, documents and JSON begin with, and no image that is made of pixels."""


async def read_image(answer: Answer, limit: int, reserve: Reserve | None) -> bytes:
    """The image in the answer. Raises ImageError for one that is too large, empty, or something else, and
    ImageUnavailable, its room given back, when it breaks off."""
    if answer.headers.get("Content-Type", "").strip().lower().startswith(NOT_IMAGES):
        raise ImageError("not-image", "The server sends something else than an image.")
    if (answer.length or 0) > limit:
        raise too_large(limit)
    try:
        return checked(await answer.read(limit, reserve))
    except ImageUnavailable:
        if reserve is not None:
            await reserve(0)
        raise


def checked(body: bytes) -> bytes:
    """`body`, unless it is plainly no image. Raises ImageError."""
    if not body:
        raise ImageError("empty", "The image has no bytes.")
    if body[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(NOT_OPENINGS):
        raise ImageError("not-image", "The server sends something else than an image.")
    return body
