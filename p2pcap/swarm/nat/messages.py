"""What peers say to each other about being reached. Limits are part of the types, as in `p2pcap.swarm.messages`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from p2pcap.swarm.messages import Address

MAX_ADDRESSES = 8

Outcome = Literal["reached", "failed", "refused"]
"""Dialled and answered by the asker; dialled in vain; not dialled: another host's, one too many, or no time for it."""


class ReachRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dial these addresses of mine back. Only those on the host that the asker is seen at are."""

    addresses: Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]


class Reached(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of it, one outcome for each address.

    `seen` is the transport address the asker's connection comes from, like /ip4/192.0.2.7/tcp/50123; empty when a relay
    carries it.
    """

    seen: Address
    outcomes: Annotated[tuple[Outcome, ...], Meta(max_length=MAX_ADDRESSES)]
