"""The end of `p2pcap.sources.child` that runs in the process: limits first, then frames in, frames out.

Nothing heavy is imported here. The process ends when the node closes its end, whatever a library is doing at that time:
a thread waits for that, and the CPU limit ends a library that lets no other thread run.
"""

import os
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable

LENGTH_BYTES = 4
"""A frame's length, big-endian, before the frame."""


def serve(answer: Callable[[bytes], Iterable[bytes]]) -> None:
    """Send the frames of `answer` for each frame of the node, until the node closes its end."""
    memory, cpu, file = (int(argument) for argument in sys.argv[1:])
    _limit(resource.RLIMIT_DATA, memory)  # what is mapped but not its own does not count, as it does with RLIMIT_AS
    _limit(resource.RLIMIT_CPU, cpu)
    _limit(resource.RLIMIT_FSIZE, file)
    _limit(resource.RLIMIT_CORE, 0)
    end = socket.socket(fileno=sys.stdin.fileno())
    end.setblocking(True)  # trio made it otherwise, for both of its ends
    end.set_inheritable(False)
    threading.Thread(target=_end_with_node, args=(end.fileno(),), daemon=True, name="node watch").start()
    while True:
        question = _take(end, int.from_bytes(_take(end, LENGTH_BYTES), "big"))
        for frame in answer(question):
            end.sendall(len(frame).to_bytes(LENGTH_BYTES, "big"))
            end.sendall(frame)


def _limit(what: int, most: int) -> None:
    """Lower a limit; one that is lower already stays."""
    now = resource.getrlimit(what)[1]
    most = most if now == resource.RLIM_INFINITY else min(most, now)
    resource.setrlimit(what, (most, most))


def _end_with_node(fd: int) -> None:
    hang_up = select.poll()
    hang_up.register(fd, select.POLLRDHUP)
    hang_up.poll()
    os._exit(0)


def _take(end: socket.socket, count: int) -> bytes:
    taken = bytearray()
    while len(taken) < count:
        part = end.recv(min(count - len(taken), 1024 * 1024))
        if not part:
            sys.exit()
        taken += part
    return bytes(taken)
