"""Asking again for what may pass.

Always holds: what is asked for in vain is asked for `Limits.tries` times at most, with a pause before each.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from p2pcap.errors import ImageResting, ImageUnavailable
from p2pcap.sources.web.hosts import Busy, Resting
from p2pcap.sources.web.limits import Limits

T = TypeVar("T")


async def with_tries(action: Callable[[], Awaitable[T]], limits: Limits) -> T:
    """What `action` gives. Raises the ImageUnavailable of the last try."""
    tried = 0
    while True:
        try:
            return await action()
        except ImageUnavailable as error:
            tried += 1
            await pause(tried, error, limits)


async def pause(tried: int, error: ImageUnavailable, limits: Limits) -> None:
    """Wait before the next try. Raises `error` when there shall be none; after a first try, ImageResting is not true
    any more."""
    if isinstance(error, ImageResting) and tried > 1:
        raise Resting(error.code, error.reason) from error
    asked = error.after if isinstance(error, Busy) else 0.0
    if tried >= limits.tries or asked > limits.patience or isinstance(error, ImageResting | Resting):
        raise error
    await trio.sleep(max(asked, limits.back_off(tried)))
