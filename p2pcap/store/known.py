"""What the file holds, in memory: ids, numbers, and for each chunk which items have a candidate.

It answers "is this new?" and "does this bear on the ranking?" without a query.

Always holds: `Known` says what is committed, and nothing else. Sets of items are integers: bit i is item i of the
chunk. `covered` and `contested` may name an item too many after a redaction, never one too few.
"""

from dataclasses import dataclass, field

from p2pcap.project.records import DEFAULT_ERROR_AUTHORS
from p2pcap.store.standing import Judged

Place = tuple[int, int]
"""Task number and chunk."""


@dataclass(frozen=True)
class Author:
    """A row of `author`. The newest grant or profile gives the name; `granted` is its time, 0 without one."""

    no: int
    granted: int = 0
    name: str = ""


@dataclass
class Known:
    """What the file holds. `numbers`: statement id to number; `checked`: numbers of results whose body is here, or was
    and is among the `dropped`; `covered`: items with a candidate; `contested`: those with several, or with one that is
    an error, so that it takes a ranking to tell which counts; `item_lists`: the chunks whose lists are stored, and
    whether a list gives the hash of every image; `error_authors`: distinct authors that make an error final; `version`:
    those of root and manifest."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    next_no: int = 0
    checked: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    authors: dict[bytes, Author] = field(default_factory=dict)
    tasks: dict[bytes, int] = field(default_factory=dict)
    covered: dict[Place, int] = field(default_factory=dict)
    contested: dict[Place, int] = field(default_factory=dict)
    redacted: dict[int, int] = field(default_factory=dict)
    judged: Judged = field(default_factory=Judged)
    blobs: set[bytes] = field(default_factory=set)
    item_lists: dict[int, bool] = field(default_factory=dict)
    version: tuple[int, int] = (0, 0)
    error_authors: int = DEFAULT_ERROR_AUTHORS
