"""A process that decodes images: `python -m p2pcap.engine.decoder FD`, FD being its end of a socket pair to the engine.

Codecs are C code that meets strangers' bytes. Here one may crash, loop or ask for all memory, and it costs one image:
the engine sees the process end, and starts another (p2pcap.engine.decoding). Files and pixels go over the socket, each
in as few pieces as its buffer allows (BUFFER): shared memory would save a third of a millisecond of the 45 that a photo
takes, and would have to be given back after a large one.

Always holds: one answer to each request, in order; the process ends with the engine's process, however that ends; and
once it is ready it opens no file and no socket any more.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

from p2pcap.engine.images import decode
from p2pcap.errors import ImageError

READY = b"\1"
"""What a decoder sends once it can be asked."""

REQUEST = struct.Struct(">III")
"""Longest edge in pixels, seconds of CPU time that it may take, bytes of the file, which follow."""

ANSWER = struct.Struct(">BII")
"""PICTURE, width and height, and its RGB rows follow; or FAULT, bytes of the code and of the reason, which follow."""

PICTURE, FAULT = 0, 1

MAX_FAULT = 1_000
"""Bytes of the code or of the reason of an ImageError."""

BUFFER = 4 * 1024**2
"""Bytes that a socket is asked to hold for the other end, so that it is woken once for a photograph or a picture; the
kernel gives what it allows (net.core.wmem_max)."""

MEMORY = 3 * 1024**3
"""Bytes of address space for an image. A JPEG 2000 or a WebP of MAX_PIXELS takes two thirds of them."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Answer requests until the other end of the socket is closed."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    die_with_parent()
    silence_codecs()
    confine()
    end.sendall(READY)
    while head := receive(end, REQUEST.size):
        edge, seconds, length = REQUEST.unpack(head)
        _answer(end, receive(end, length), edge, seconds)


def die_with_parent() -> None:
    """Makes the kernel kill this process when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def silence_codecs() -> None:
    """Leaves standard error to Python alone. libtiff writes a line for each damaged row of a stranger's image to it."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def confine() -> None:
    """Limits for good what this process may take: memory, no core dumps, no descriptor beyond those it has.

    Where a machine runs out of memory all the same, the kernel is to take this process rather than the model's.
    """
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    space = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def receive(end: socket.socket, length: int) -> bytes:
    """So many bytes, or none when the other end is closed before. Raises OSError.

    In one call, which neither copies them nor fills the memory with zeros first.
    """
    data = end.recv(length, socket.MSG_WAITALL) if length else b""
    return data if len(data) == length else b""


def send(end: socket.socket, head: bytes, body: bytes) -> None:
    """Both, in one call where the socket takes them, so that the other end is woken once. Raises OSError."""
    sent = end.sendmsg((head, body))
    if rest := memoryview(head)[sent:]:
        end.sendall(rest)
    if rest := memoryview(body)[max(0, sent - len(head)) :]:
        end.sendall(rest)


def _answer(end: socket.socket, file: bytes, edge: int, seconds: int) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process, in the middle of a codec too
    try:
        image = decode(file, edge)
        head, body = ANSWER.pack(PICTURE, *image.size), image.tobytes()
    except ImageError as error:
        texts = error.code.encode(), error.reason.encode()
        head, body = ANSWER.pack(FAULT, *map(len, texts)), b"".join(texts)
    signal.setitimer(signal.ITIMER_PROF, 0)
    send(end, head, body)


if __name__ == "__main__":
    main()
