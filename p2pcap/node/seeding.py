"""Which images can be handed out from a folder: those that are in the maintainer's own, known by their hash.

What is on the Hub or the web is read there by each volunteer, and a folder with copies of it is of no use to anybody.
"""

from collections.abc import Awaitable, Callable

from p2pcap.errors import ConfigError
from p2pcap.project.items import ItemList


def has_local(found: ItemList) -> bool:
    """Whether some image of the list is handed out from folders, by its hash."""
    return any(item.hash and found.travels(item) for item in found.items)


async def check_local(chunks: int, listing: Callable[[int], Awaitable[ItemList]]) -> None:
    """Raises ConfigError when no list of the project's `chunks` has an image that is handed out from folders."""
    for chunk in range(chunks):
        if has_local(await listing(chunk)):
            return
    raise ConfigError(
        "None of the project's images is handed out from a folder: each volunteer reads them on the Hub or the web. "
        "There is nothing to seed; to caption them use p2pcap join."
    )
