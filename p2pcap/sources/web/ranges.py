"""Ranges of files over HTTP (RFC 9110, 14): exactly the bytes that were asked for, or an error.

Always holds: what is handed on came from where it was asked for, in order and without gaps; a transfer that breaks off
goes on where it stopped, and only with the same file.
"""

import re
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from p2pcap.errors import ImageError, ImageUnavailable
from p2pcap.sources.web.client import Answer
from p2pcap.sources.web.limits import Limits
from p2pcap.sources.web.transport import Truncated
from p2pcap.sources.web.tries import pause, with_tries

PROGRESS = 1024 * 1024
"""Bytes that must have come before a broken transfer counts as begun anew."""

CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)", re.ASCII)


class Get(Protocol):
    """Asks for one file with these headers; answers with a status that is neither 2xx nor in `accept` are raised."""

    def __call__(self, headers: Mapping[str, str], accept: Collection[int] = ()) -> AbstractAsyncContextManager[Answer]:
        """The answer, its body still to come."""


@dataclass(frozen=True)
class Part:
    """What a 206 answer says that it holds: bytes from `start` up to `end`, of `total` in all where that is known."""

    start: int
    end: int
    total: int | None


def content_range(text: str) -> Part | None:
    """The part that a `Content-Range` names; (0, 0) where it names none but the total. None for anything else."""
    found = CONTENT_RANGE.fullmatch(text.strip())
    if found is None:
        return None
    first, last, total = found.groups()
    start, end = (int(first), int(last) + 1) if first else (0, 0)
    whole = None if total == "*" else int(total)
    return Part(start, end, whole) if start <= end and (whole is None or end <= whole) else None


def validator(answer: Answer) -> str | None:
    """What tells this state of the file from any other: a strong ETag, fit for `If-Range` (RFC 9110, 13.1.5)."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else None


async def size_of(get: Get, limits: Limits) -> int:
    """The file's bytes, found out by asking for the first of them."""
    return await with_tries(lambda: _size(get), limits)


async def _size(get: Get) -> int:
    async with get({"Range": "bytes=0-0"}, accept=(416,)) as answer:
        if answer.status == 200 and answer.length is not None:
            return answer.length
        part = content_range(answer.headers.get("Content-Range", ""))
        if part is None or part.total is None or answer.status not in (206, 416):
            raise ImageUnavailable("server-error", "The server does not say how long the file is.")
        await answer.read(1)
        return part.total


async def read_range(get: Get, start: int, length: int, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The bytes from `start`, in parts of at most 64 KiB. Raises ImageError: "gone" for a file that is too short,
    "changed" for one that has changed meanwhile; ImageUnavailable when tries without progress are used up."""
    transfer = _Transfer(start, start + length)
    tried, begun = 0, start
    while transfer.at < transfer.end:
        try:
            async with get(transfer.headers()) as answer:
                transfer.accept(answer)
                while part := await answer.next():
                    transfer.take(part)
                    yield part
                transfer.ended()
        except ImageUnavailable as error:
            if transfer.at - begun >= PROGRESS:
                tried, begun = 0, transfer.at
            tried += 1
            await pause(tried, error, limits)


class _Transfer:
    """How far the bytes from `at` to `end` have come."""

    def __init__(self, at: int, end: int) -> None:
        self.at = at
        self.end = end
        self._begun = False
        self._tag: str | None = None

    def headers(self) -> dict[str, str]:
        """Asks for what is left, of the same file."""
        asked = {"Range": f"bytes={self.at}-{self.end - 1}"}
        return asked if self._tag is None else {**asked, "If-Range": self._tag}

    def accept(self, answer: Answer) -> None:
        """Raises ImageError unless the answer brings what was asked for."""
        tag = validator(answer)
        if self._tag is not None and tag != self._tag:
            raise ImageError("changed", "The file has changed while it was read.")
        if answer.status == 206:
            self._accept_part(answer)
        elif self.at > 0 or answer.length not in (None, self.end):
            raise ImageUnavailable("server-error", "The server gives no parts of files.")
        self._tag = tag

    def _accept_part(self, answer: Answer) -> None:
        part = content_range(answer.headers.get("Content-Range", ""))
        if part is None or part.start != self.at or answer.length not in (None, part.end - part.start):
            raise ImageUnavailable("server-error", "The server gives another part of the file than was asked for.")
        if part.total is not None and part.total < self.end:
            raise ImageError("gone", "The file is shorter than was planned.")
        if part.end != self.end:
            raise ImageUnavailable("server-error", "The server gives another part of the file than was asked for.")

    def take(self, part: bytes) -> None:
        """Raises ImageError when more comes than was asked for."""
        self.at += len(part)
        if self.at > self.end:
            raise ImageError("changed", "The server sends more of the file than was asked for.")

    def ended(self) -> None:
        """Raises Truncated when something is still missing."""
        if self.at < self.end:
            raise Truncated
