"""The decoders of an engine: a process for each core, each driven by a thread of this process.

An image that kills its decoder, or that takes too long, is named by it and costs a new process; the others go on. A
decoder that dies is given the image once more in a new process first, because what ended it may have been something
else: a machine short of memory, or somebody's `kill`.

Always holds: after `close`, and however this process ends, no decoder is left. A thread starts its own decoder and
lives as long as it, for the kernel takes the end of that thread for the parent's.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from p2pcap.engine.decoder import ANSWER, BUFFER, FAULT, MAX_FAULT, PICTURE, READY, REQUEST, send
from p2pcap.engine.images import MAX_PIXELS
from p2pcap.errors import EngineDied, ImageError

MOST = 32
"""Decoders at most; so many decode 900 photographs of 12 megapixels a second, which is more than any engine reads."""

CPU_SECONDS = 60
"""CPU time for one image: three times what the slowest honest one takes, a JPEG 2000 of MAX_PIXELS."""

SECONDS = 300.0
"""Time for one image, whatever else the machine does: a decoder that takes it does not run."""

START_SECONDS = 60.0
"""Time for a decoder to start; it takes 0.2 s on an idle machine."""

ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(15 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2)}
"""What makes glibc keep freed memory for the next photograph (mallopt(3)): by default each one would touch a thousand
new pages, 3 ms of 46. Pillow's blocks of 16 MiB, of which the large images consist, go back to the system."""

BYTES_PER_PIXEL = 3
"""Of RGB."""

ATTEMPTS = 2
"""Decoders that an image may end before that is held to be its fault."""


class Decoders:
    """Decodes images in other processes. They start with the first images that need them."""

    def __init__(self, count: int = 0, cpu_seconds: int = CPU_SECONDS, seconds: float = SECONDS) -> None:
        """Up to `count` of them; 0: one for each core that this process may use."""
        self.count = count or min(MOST, len(os.sched_getaffinity(0)))
        self._limits = cpu_seconds, seconds
        self._threads = ThreadPoolExecutor(self.count, "decode")
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._running: set[Decoder] = set()
        self._closed = False

    def submit(self, file: bytes, edge: int) -> "Future[Image.Image]":
        """The picture as p2pcap.engine.images makes it, in time.

        The future raises ImageError with any of that module's codes, "too-slow" or "decoder-died"; EngineDied when no
        decoder can be started.
        """
        return self._threads.submit(self._decode, file, edge)

    def close(self) -> None:
        """Ends all decoders; what was asked and not answered raises CancelledError or EngineDied. Blocks shortly."""
        with self._lock:
            self._closed = True
            for decoder in self._running:
                decoder.kill()
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._running:
            decoder.close()
        self._running.clear()

    def pids(self) -> list[int]:
        """The processes that run now."""
        with self._lock:
            return [decoder.pid for decoder in self._running]

    def _decode(self, file: bytes, edge: int) -> Image.Image:
        for _ in range(ATTEMPTS):
            decoder = self._own()
            try:
                return decoder.decode(file, edge, *self._limits)
            except TimeoutError as error:
                self._drop(decoder)
                raise _too_slow() from error
            except OSError as error:
                status = self._drop(decoder)
                if status == -signal.SIGPROF:
                    raise _too_slow() from error
        raise ImageError("decoder-died", f"{ATTEMPTS} decoders died of the image ({_cause(status)}).")

    def _own(self) -> "Decoder":
        """This thread's decoder. Raises EngineDied when it does not start, or all are to end."""
        decoder: Decoder | None = getattr(self._mine, "decoder", None)
        if decoder is None:
            decoder = self._start()
            try:
                decoder.wait_ready()
            except OSError as error:
                status = self._drop(decoder)
                raise EngineDied(f"An image decoder does not start ({_cause(status)}).") from error
            self._mine.decoder = decoder
        return decoder

    def _start(self) -> "Decoder":
        with self._lock:  # so that `close` finds it, or it does not start
            if self._closed:
                raise EngineDied("The image decoders are closed.")
            try:
                decoder = Decoder()
            except OSError as error:
                raise EngineDied(f"An image decoder cannot be started ({error.strerror}).") from error
            self._running.add(decoder)
            return decoder

    def _drop(self, decoder: "Decoder") -> int:
        """Ends this thread's decoder; its exit status."""
        with self._lock:
            self._running.discard(decoder)
        self._mine.decoder = None
        return decoder.close()


class Decoder:
    """One process and the socket to it. Used by one thread, but for `kill`."""

    def __init__(self) -> None:
        """Starts it. Raises OSError."""
        self._end, theirs = socket.socketpair()
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        try:
            with theirs:
                command = [sys.executable, "-P", "-m", "p2pcap.engine.decoder", str(theirs.fileno())]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=os.environ | ALLOCATION
                )
        except BaseException:
            self._end.close()
            raise
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Raises OSError when it ends, or does not answer."""
        _receive(self._end, len(READY), time.monotonic() + START_SECONDS)

    def decode(self, file: bytes, edge: int, cpu_seconds: int, seconds: float) -> Image.Image:
        """The picture. Raises ImageError; TimeoutError after `seconds`; any other OSError when the process ends."""
        deadline = time.monotonic() + seconds
        self._end.settimeout(seconds)
        send(self._end, REQUEST.pack(edge, cpu_seconds, len(file)), file)
        kind, first, second = ANSWER.unpack(_receive(self._end, ANSWER.size, deadline))
        if kind == PICTURE and 0 < first * second <= MAX_PIXELS:
            pixels = _receive(self._end, first * second * BYTES_PER_PIXEL, deadline)
            return Image.frombytes("RGB", (first, second), pixels)
        if kind == FAULT and max(first, second) <= MAX_FAULT:
            texts = [_receive(self._end, length, deadline).decode("ascii", "replace") for length in (first, second)]
            raise ImageError(*texts)
        raise ConnectionError("a decoder that was taken over")

    def kill(self) -> None:
        """Ends the process, from any thread."""
        self._process.kill()

    def close(self) -> int:
        """Ends the process if it still runs, and waits for that; its exit status, negative for a signal."""
        self._process.kill()  # one that hung up before keeps the status it ended with
        self._end.close()
        return self._process.wait()


def _receive(end: socket.socket, length: int, deadline: float) -> bytearray:
    """So many bytes. Raises TimeoutError at the deadline, ConnectionError when the other end is closed before."""
    data = bytearray(length)
    view, got = memoryview(data), 0
    while got < length:
        end.settimeout(max(deadline - time.monotonic(), 0.001))
        count = end.recv_into(view[got:])
        if count == 0:
            raise ConnectionError("The decoder ended.")
        got += count
    return data


def _too_slow() -> ImageError:
    return ImageError("too-slow", "Decoding the image takes too long.")


def _cause(status: int) -> str:
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
