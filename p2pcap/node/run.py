"""Running a node as a program: signals, logs, and one error out of many.

SIGINT, SIGTERM or SIGHUP once ends it politely, twice at once. SIGHUP stays ignored where it was (nohup).
"""

import signal
from collections.abc import Awaitable, Callable

import structlog
import trio

from p2pcap.errors import P2pcapError
from p2pcap.node.logs import log_to
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions

log = structlog.get_logger()

Watch = Callable[[Node], Awaitable[None]]
"""Something that runs beside the node for people, such as a progress line."""


def run_node(options: NodeOptions, say: Callable[[str], None], watch: Watch, log_level: str = "info") -> bool:
    """Run a node until it stops by itself or is told to; True when a second signal cut it short.

    Raises the P2pcapError that ended it.
    """
    try:
        return trio.run(_run, options, say, watch, log_level)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _run(options: NodeOptions, say: Callable[[str], None], watch: Watch, log_level: str) -> bool:
    node = Node(options, say)
    log_to(node.paths.log, log_level)
    log.info("starting", role=options.role, peer=node.identity.peer_id, project=options.ticket.root.hex()[:16])
    cut_short = False
    try:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                nonlocal cut_short
                with trio.open_signal_receiver(*ending_signals()) as signals:
                    await anext(signals)
                    say("stopping; once more stops at once")
                    node.stop()
                    await anext(signals)
                    cut_short = True
                    nursery.cancel_scope.cancel()

            nursery.start_soon(obey)
            await nursery.start(node.run)
            nursery.start_soon(watch, node)
            await node.ended.wait()
            nursery.cancel_scope.cancel()
    except BaseException as error:
        log.error("ended", error=repr(error), exc_info=not isinstance(error, P2pcapError))
        raise
    log.info("stopped")
    return cut_short


def ending_signals() -> list[signal.Signals]:
    """The signals that end a node."""
    kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if kept else [signal.SIGHUP])]


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: a defect before one of ours, and the interruption last."""
    leaves = list(_leaves(group))
    ours = [leaf for leaf in leaves if isinstance(leaf, P2pcapError)]
    defects = [leaf for leaf in leaves if isinstance(leaf, Exception) and leaf not in ours]
    return (defects or ours or leaves)[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
