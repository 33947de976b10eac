"""Errors of planning, with the name of the file that they are about.

What readers say of a file names no place, as it may travel in signed rows; whoever plans reads it on his own terminal
and has to know which of many files it is, and what to do. Always holds: an error keeps its class.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from p2pcap.errors import ConfigError, ImageError, SourceDenied, SourceError, SourceGone, SourceUnavailable
from p2pcap.sources.locations import DataFile, Location

ADVICE: tuple[tuple[type[SourceError], str], ...] = (
    (SourceGone, "Correct images.source, or have the file put there again."),
    (SourceUnavailable, "Check the address and the network, then sign again."),
    (SourceDenied, "See that this machine may read it."),
)
"""What to do where the reason is one of the network's, which have no second sentence."""


@contextmanager
def naming(location: Location) -> Iterator[None]:
    """ConfigErrors and SourceErrors that leave the block say that they are about `location`."""
    try:
        yield
    except (ConfigError, SourceError) as error:
        raise named(error, location) from error
    except BaseExceptionGroup as group:
        found = first(group)
        if not isinstance(found, ConfigError | SourceError):
            raise
        raise named(found, location) from group


def first(error: BaseException) -> BaseException:
    """The error that ended what ran side by side."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def named(error: ConfigError | SourceError, location: Location) -> ConfigError | SourceError:
    """The same error with the file's name in its message, unless it is there already."""
    name = location.path if isinstance(location, DataFile) else str(location)
    if name in str(error):
        return error
    if isinstance(error.__cause__, ImageError):
        advice = next((text for kind, text in ADVICE if isinstance(error, kind)), "")
        return type(error)(f"{name} cannot be read: {error.__cause__.reason} {advice}".rstrip())
    return type(error)(f"{name}: {error}")
