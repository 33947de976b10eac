"""What an audit needs from the node around it, and nothing else.

The node fills this in with the swarm, the store, the image cache and the worker.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from p2pcap.audit.checking import Shown
from p2pcap.envelope import Envelope
from p2pcap.errors import ImageError
from p2pcap.ledger.evidence import Ids
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.rulings import Finding


class AuditStation(Protocol):
    """The surroundings of an audit."""

    async def rows(self, id_: bytes, result: Result) -> Sequence[Row] | None:
        """The checked rows of a result; None when nobody hands its body over now."""

    async def evidence(self, author: bytes, result: Result) -> Mapping[int, Ids] | None:
        """The token ids of a result's answers, by item, as its author tells them: nothing where he names none, or names
        what is none. None when he cannot be asked now."""

    async def images(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Shown | ImageError]:
        """The images at the places `wanted` of the chunk, or why one cannot be had. A place that is left out is to be
        asked for again some time later."""

    async def values(self, result: Result, rows: Sequence[Row]) -> Mapping[int, Mapping[str, str]]:
        """For each of these rows of a result what its prompts used beside the image, by item. One that is left out used
        answers of other tasks which are not the ones that count here."""

    async def publish(self, envelope: Envelope, finding: Finding) -> None:
        """Make a finding durable, with what it changes, and tell everybody."""

    async def changed(self) -> None:
        """Wait until something may have changed that bears on what is to be checked."""


class Captioning(Protocol):
    """The captioning that goes on with the same engine, and goes first."""

    @property
    def busy(self) -> bool:
        """Whether there is work of one's own."""

    @property
    def made(self) -> int:
        """Images that were captioned so far."""

    def entered(self, alone: bool) -> AbstractAsyncContextManager[None]:
        """With the engine, in turn with one's own images; `alone`: without any other there."""
