"""What a node does when every image has its row: it stays, it leaves, or it runs a command of its user's.

Work may come later, by a newer manifest: a node that stayed goes on with it, and finishes anew.

Always holds: the command is begun once at most for each set of images and questions, whenever the node or the machine
ends: a command that switches the machine off would do so at each start. It is the user's own, run without a shell, and
what strangers chose reaches it as the value of a variable at most.
"""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import structlog
import trio

from p2pcap.codec import encode
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.options import NodeOptions
from p2pcap.paths import NodePaths
from p2pcap.project.opened import Project
from p2pcap.swarm.messages import Status
from p2pcap.whole_file import replace_whole

LEAVE_WITHIN = 30.0
"""Seconds a node that is done waits for some peer to hold everything that it holds."""

SECOND_OPINION = 300.0
"""Seconds without a further row after which errors of others are left without a second opinion."""

BEGUN = " begun"
"""After the finish in the file: its command was begun, and nobody saw it end."""

MAX_FILE = 256

log = structlog.get_logger()


class Finished:
    """`me` is the node's public key, `statuses` asks every connected peer for its status; `say` gets lines for
    people."""

    def __init__(
        self,
        options: NodeOptions,
        paths: NodePaths,
        me: bytes,
        ledger: Ledger,
        change: Change,
        peers_changed: Change,
        statuses: Callable[[], Awaitable[Sequence[Status]]],
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._paths = paths
        self._me = me
        self._ledger = ledger
        self._change = change
        self._peers_changed = peers_changed
        self._statuses = statuses
        self._say = say

    async def run(self, leave: Callable[[], None]) -> None:
        """Wait for each finish, and do what the user wanted then; calls `leave` and returns when that was to leave."""
        while True:
            await self._until(finished=True)
            if self._options.role == "volunteer":
                await self._second_opinions()
            log.info("finished", rows=self._ledger.items_done)
            await self._run_command()
            if not self._options.until_done:
                self._say("every image has its row; staying to serve others, Ctrl+C leaves")
                await self._until(finished=False)
            elif await self._may_leave():
                leave()
                return
            self._say("there is new work in the project")

    async def _until(self, finished: bool) -> None:
        while self._ledger.finished != finished:
            await self._change.wait()

    async def _may_leave(self) -> bool:
        """Wait until a peer holds every row, for LEAVE_WITHIN seconds; False when there is new work by then."""
        self._say("every image has its row; leaving once a peer holds them all")
        with trio.move_on_after(LEAVE_WITHIN):
            while self._ledger.finished and not await self._held_elsewhere():
                with trio.move_on_after(1):
                    await self._peers_changed.wait()
        return self._ledger.finished

    async def _second_opinions(self) -> None:
        """Wait while this node can still say something about images that one author could not caption.

        It gives up when it gets no further for SECOND_OPINION seconds: such an image may be with nobody any more.
        """
        while self._ledger.work_left(self._me):
            rows = self._ledger.by_author_total(self._me)
            with trio.move_on_after(SECOND_OPINION):
                while self._ledger.work_left(self._me) and self._ledger.by_author_total(self._me) == rows:
                    await self._change.wait()
                continue
            return

    async def _held_elsewhere(self) -> bool:
        """Whether a connected peer says that it holds as many rows as this node does."""
        return any(status.rows >= self._ledger.items_done for status in await self._statuses())

    async def _run_command(self) -> None:
        command, finish = self._options.when_finished, finish_id(self._ledger.project)
        if not command or (mark := await trio.to_thread.run_sync(_read, self._paths.finished)) == finish:
            return
        if mark == finish + BEGUN:
            self._say(
                f"{command[0]} was begun at this finish before, and the node ended before it did: it is not run again. "
                f"Run it yourself, or remove {self._paths.finished} and start the node again"
            )
            return
        if not await self._marked(finish + BEGUN):
            self._say(f"{command[0]} is not run: {self._paths.finished} cannot be written. See that there is room")
            return
        self._say(f"every image has its row; running {command[0]}")
        ran = await run_command(command, told(self._ledger, self._paths), self._paths.finished_log, self._say)
        await self._marked(finish if ran else "")

    async def _marked(self, mark: str) -> bool:
        """Keep it on disk, for whoever starts this node again; False when that cannot be done."""
        return await trio.to_thread.run_sync(_write, self._paths.finished, mark)


async def run_command(
    command: Sequence[str], variables: Mapping[str, str], output: Path, say: Callable[[str], None]
) -> bool:
    """Run the command with these variables beside its own environment; what it prints goes to the end of `output`.
    False when it could not be started; how it ended is said."""
    try:
        with output.open("ab") as file:
            done = await trio.run_process(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                check=False,
                env={**os.environ, **variables},
                start_new_session=True,
            )
    except OSError as error:
        say(f"{command[0]} could not be run: {error.strerror}. Correct --when-finished.")
        return False
    ended = f"ended with code {done.returncode}" if done.returncode else "is done"
    say(f"{command[0]} {ended}" + (f"; {output} may say why" if done.returncode else ""))
    return True


def told(ledger: Ledger, paths: NodePaths) -> dict[str, str]:
    """What the command is told, by variables. The project's title is a stranger's: printable, without a NUL."""
    project = ledger.project
    return {
        "P2PCAP_EVENT": "finished",
        "P2PCAP_NODE": str(paths.directory),
        "P2PCAP_PROJECT": project.hash.hex(),
        "P2PCAP_PROJECT_NAME": "".join(letter for letter in project.title if letter.isprintable()),
        "P2PCAP_MANIFEST": str(project.manifest.version),
        "P2PCAP_IMAGES": str(project.images),
        "P2PCAP_ROWS": str(ledger.items_done),
    }


def parse_command(text: str) -> tuple[str, ...]:
    """The words of a command, as a shell would split them. Raises ValueError for none, or an open quote."""
    words = tuple(shlex.split(text))
    if not words:
        raise ValueError("there is no command")
    return words


def finish_id(project: Project) -> str:
    """Names a set of images and questions, in hex: the same however often the maintainer signs it."""
    parts = tuple(stage.task.tid for stage in project.stages), project.plan.chunks
    return hashlib.sha256(encode(parts)).hexdigest()


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _write(file: Path, mark: str) -> bool:
    try:
        replace_whole(file, f"{mark}\n".encode())
    except OSError as error:
        log.warning("finish not kept", path=str(file), reason=error.strerror)
        return False
    return True
