"""Builders of chains of roots, each version signed by whom the test says."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, structs

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.project.records import Role, Roles, Root
from p2pcap.project.roots import root_hash
from tests.makers import FOREVER, NOW

KEYS = [Identity.from_seed(bytes([number]) * 32) for number in range(1, 40)]
HELM, NEW_HELM = KEYS[30], KEYS[31]
"""Coordinators."""


def root_of(holders: Sequence[Identity], threshold: int = 1, helm: Identity = HELM, **changes: Any) -> Root:
    """A first root: `holders` are its root keys, `helm` its coordinator."""
    keys = tuple(key.public for key in (*holders, helm))
    roles = Roles(Role(tuple(range(len(holders))), threshold), Role((len(holders),)))
    return structs.replace(Root("Shapes", 1, NOW, FOREVER, keys, roles), **changes)


def after(root: Root, holders: Sequence[Identity], threshold: int = 1, helm: Identity = HELM, **changes: Any) -> Root:
    """The version after `root`."""
    linked = {"version": root.version + 1, "before": root_hash(root)}
    return root_of(holders, threshold, helm, **linked | changes)


def signed(root: Root, *signers: Identity) -> list[Envelope]:
    """The root with these signatures."""
    return [seal(signer, "root", root) for signer in signers]


def forged(envelope: Envelope) -> Envelope:
    """The same envelope with a signature that does not hold."""
    return Envelope(envelope.kind, envelope.payload, envelope.author, bytes(64))


def plain(root: Root) -> Root:
    """The root without its link to the one before."""
    return structs.replace(root, before=UNSET)
