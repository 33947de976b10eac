"""What test_child runs in a process: says back what it is told, or does harm."""

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Iterator

from p2pcap.sources.child_side import serve


def answer(question: bytes) -> Iterator[bytes]:
    match question:
        case b"pid":
            yield str(os.getpid()).encode()
        case b"environment":
            yield " ".join(os.environ).encode()
        case b"crash":
            ctypes.string_at(0)
        case b"memory":
            yield bytes(2**30)
        case b"exit":
            sys.exit(3)
        case b"file":
            with tempfile.TemporaryFile() as file:
                file.write(b"x")
        case b"sleep":
            time.sleep(600)
        case _:
            yield question


if __name__ == "__main__":
    serve(answer)
