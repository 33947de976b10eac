"""Statements that the maintainer hands in: rulings and grants, signed by a command, taken in by a node and told on.

They come through the control socket, which only the node's owner can reach, or from the folder "outbox" in which a
command left them while no node ran. They are judged like a stranger's.

Always holds: a statement that is told to be taken in is durable; a file of the outbox is removed only when that holds
of it. One that can never be taken in is put aside under another name, so what was signed is not lost, and not tried
again.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog
import trio

from p2pcap.envelope import MAX_ENVELOPE
from p2pcap.errors import StoreError, SwarmError
from p2pcap.ledger.judgement import Judgement, Verdict
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.node.intake import Intake
from p2pcap.node.seams import Network
from p2pcap.swarm.messages import CONTROL

MAX_SUBMITTED = 64
"""Statements in one request: with their base64 they fit a frame."""

MAX_OUTBOX = 100_000
"""Files of an outbox that are looked at."""

log = structlog.get_logger()


class Outcome(msgspec.Struct, frozen=True):
    """What became of a statement: `held` says whether this node holds it now; if not, `reason` says why, and `never`
    whether that is for good."""

    held: bool
    reason: str = ""
    never: bool = False


async def submit(ledger: Ledger, intake: Intake, network: Network, data: bytes, now: float) -> Outcome:
    """Judge the statement in `data` at `now` (unix seconds), take it in and tell everybody. Durable when this returns.

    Raises StoreError.
    """
    judgement = validate(ledger, data, now)
    if judgement.verdict is not Verdict.ACCEPT:
        return _refused(ledger, data, judgement)
    assert judgement.envelope is not None
    await intake.receive([data])
    if not ledger.holds(judgement.envelope.id):
        return Outcome(False, "another statement took its place meanwhile")
    try:
        await network.publish(CONTROL, data)
    except SwarmError as error:
        log.warning("not gossiped", topic=CONTROL, reason=str(error))  # sync brings it to everybody
    return Outcome(True)


def _refused(ledger: Ledger, data: bytes, judgement: Judgement) -> Outcome:
    if judgement.verdict is Verdict.IGNORE and judgement.reason == "seen":
        return Outcome(True, "it was here already")
    log.warning("statement refused", verdict=judgement.verdict.value, reason=judgement.reason)
    return Outcome(False, judgement.reason, judgement.verdict is Verdict.REJECT)


async def hand_in(outbox: Path, submit: Callable[[bytes], Awaitable[Outcome]], say: Callable[[str], None]) -> None:
    """Hand in every statement of the folder `outbox`, in the order of names. Raises StoreError."""
    for path in await trio.to_thread.run_sync(_files, outbox):
        data = await trio.to_thread.run_sync(_read, path)
        if data is None:
            say(f"{path} cannot be read; it stays where it is")
            continue
        outcome = await submit(data)
        if outcome.held:
            await trio.to_thread.run_sync(_remove, path)
            say(f"handed in {path.name}, which was signed while no node ran")
        elif outcome.never:
            aside = await trio.to_thread.run_sync(_put_aside, path)
            say(f"{path} can never be taken in: {outcome.reason}. It is put aside as {aside.name}")
        else:
            say(f"{path} is not taken in: {outcome.reason}. It stays where it is, and is tried again at the next start")


def _files(outbox: Path) -> list[Path]:
    try:
        return sorted(outbox.glob("*.cbor"))[:MAX_OUTBOX]
    except OSError as error:
        log.warning("outbox", reason=str(error))
        return []


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ENVELOPE + 1)
    except OSError:
        return None


def _put_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.refused")
    try:
        path.rename(aside)
    except OSError as error:
        raise StoreError(f"{path} cannot be renamed: {error.strerror}. Check the folder and its owner.") from error
    return aside


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}. Check the folder and its owner.") from error
