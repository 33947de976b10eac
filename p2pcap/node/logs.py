"""Structured logs: JSON lines with named fields in the node's folder, and nothing on the terminal.

What a person should see is said by the command that runs the node; the log keeps everything else.
Fields used throughout: peer, author, chunk, statement (hex id), reason, error.

Always holds: each line is one JSON object; the file and the one before it have `MOST` bytes and a line at most.
"""

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


MOST = 16 * 1024 * 1024
"""Bytes; a log that has more is moved to the name with ".1", where the one before it was."""


class LogFile:
    """A file that loses a line rather than raise: a full disk must not end the node through its log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> int:
        """A whole line, or several."""
        with self._lock, suppress(OSError):
            if self._file.tell() > MOST:
                self._move()
            self._file.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is written any more."""
        with self._lock:
            self._file.close()

    def _move(self) -> None:
        """A new file under the name. Where none can be had, the old one goes on."""
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        new = self._path.open("ab", buffering=0)
        self._file.close()
        self._file = new


class _AsJson(logging.Formatter):
    """A record of the standard library's as a line like structlog's."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "library": record.name,
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_to(path: Path, level: str = "info") -> None:
    """Send structlog's and the standard library's records to `path`, from `level` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = LogFile(path)
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
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, file)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast(TextIO, file))
    handler.setFormatter(_AsJson())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
