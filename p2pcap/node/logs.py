"""Structured logs: JSON lines with named fields in the node's folder, and nothing on the terminal.

What a person should see is said by the command that runs the node; the log keeps everything else.
Fields used throughout: peer, author, chunk, statement (hex id), reason, error.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _LogFile:
    """A text file that loses a line rather than raise: a full disk must not end the node through its log."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def log_to(path: Path, level: str = "info") -> None:
    """Send structlog's and the standard library's records to `path`, from `level` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _LogFile(path.open("a", buffering=1, encoding="utf-8"))
    logging.raiseExceptions = False
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, file)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter('{"library": "%(name)s", "level": "%(levelname)s", "event": %(message)r}'))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
