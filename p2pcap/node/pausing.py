"""Whether a volunteer's node holds back: by the user's own word, which outlives the node, or by its manners.

The user's word is a small file in the node's folder. A pause with a length ends by the clock on the wall, whether the
node runs or not. Manners (p2pcap.node.manners) hold the node back by the same means, and never lift the user's pause.

Always holds: what the user said is on disk before it is obeyed; a file that cannot be read counts as a pause.
"""

import math
from pathlib import Path

import msgspec
import structlog
import trio

from p2pcap.errors import StoreError
from p2pcap.node.change import Change
from p2pcap.node.hold import Hold
from p2pcap.node.seams import Clock
from p2pcap.whole_file import replace_whole

LOOK_EVERY = 30.0
"""Seconds between two looks at the clock during a pause: it may be set, and stands still for nobody who sleeps."""

MAX_FILE = 4_096

log = structlog.get_logger()


class Wish(msgspec.Struct, frozen=True):
    """What the user said: to pause, until a time or (None) until told otherwise; `finish`: after what is in hand."""

    until: float | None = None
    finish: bool = False

    @property
    def hold(self) -> Hold:
        """The same as a reason to hold back."""
        if self.finish:
            return Hold("you had it finish; p2pcap resume goes on", None, math.inf)
        return Hold("you paused it" + ("" if self.until else "; p2pcap resume goes on"), self.until, 0.0)


class Pausing:
    """The pause of one node, kept in `file`. `changed` tells when it has begun, changed or ended."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self.changed = Change()
        self._file = file
        self._clock = clock
        self._wish = _read(file)
        self._turn = trio.Lock()
        self._manners: Hold | None = None

    @property
    def hold(self) -> Hold | None:
        """What holds the node back now, the user's word before its manners; None: nothing does."""
        return self._wish.hold if self._wish is not None else self._manners

    @property
    def mannerly(self) -> Hold | None:
        """What its manners say, whatever the user said."""
        return self._manners

    async def pause(self, seconds: float | None) -> float | None:
        """Hold back from now on, for so many seconds or until told otherwise. Returns when it ends, in unix seconds.
        Raises StoreError when that cannot be kept."""
        until = None if seconds is None else self._clock() + seconds
        await self._say(Wish(until))
        return until

    async def finish(self) -> None:
        """Hold back once what is in hand is done, until told otherwise. Raises StoreError."""
        await self._say(Wish(finish=True))

    async def resume(self) -> None:
        """The user's pause is over. Raises StoreError."""
        await self._say(None)

    def behave(self, hold: Hold | None) -> None:
        """What the node's manners say now."""
        if hold != self._manners:
            self._manners = hold
            self.changed.tell()

    async def run(self) -> None:
        """End the user's pause when its time has come; until cancelled."""
        while True:
            until = self._wish.until if self._wish else None
            left = math.inf if until is None else until - self._clock()
            if left <= 0 and await self._end():
                continue
            wait = left if math.isinf(left) else min(left, LOOK_EVERY)
            with trio.move_on_after(wait if left > 0 else LOOK_EVERY):
                await self.changed.wait()

    async def _end(self) -> bool:
        """The time has come; False when that could not be kept, and is tried again."""
        try:
            async with self._turn:
                if self._wish and self._wish.until and self._wish.until <= self._clock():  # nothing was said meanwhile
                    await self._keep(None)
        except StoreError as error:
            log.warning("pause not ended", reason=str(error))
            return False
        return True

    async def _say(self, wish: Wish | None) -> None:
        async with self._turn:
            await self._keep(wish)

    async def _keep(self, wish: Wish | None) -> None:
        await trio.to_thread.run_sync(_write, self._file, wish)
        self._wish = wish
        log.info("paused" if wish else "resumed", until=wish.until if wish else None)
        self.changed.tell()


def _read(file: Path) -> Wish | None:
    """What was said; None: nothing. What cannot be read may have been a pause, and is taken for one."""
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(MAX_FILE), type=Wish)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("pause unreadable", path=str(file), reason=str(error))
        return Wish()


def _write(file: Path, wish: Wish | None) -> None:
    try:
        if wish is None:
            file.unlink(missing_ok=True)
        else:
            replace_whole(file, msgspec.json.encode(wish))
    except OSError as error:
        raise StoreError(f"The pause cannot be kept in {file}: {error.strerror}. See that there is room.") from error
