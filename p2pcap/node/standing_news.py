"""What a volunteer is told when his work counts no more, or again.

Always holds: each change is said once, as long as the node runs.
"""

from collections.abc import Callable

from p2pcap.ledger.state import Ledger


class StandingNews:
    """The news about the author `me`; `say` gets a line for people."""

    def __init__(self, me: bytes, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._me = me
        self._ledger = ledger
        self._say = say
        self._admitted = False
        self._banned = False
        self._quarantined = False

    def tell(self) -> None:
        """Say what has changed since the last time."""
        self._tell_ban()
        self._tell_admission()
        self._tell_quarantine()

    def _tell_ban(self) -> None:
        ban = self._ledger.rulings.ban(self._me)
        if ban is not None and not self._banned:
            self._say(f"the maintainer has banned this node: {ban.reason or 'no reason given'}; it works no more")
        self._banned = ban is not None

    def _tell_admission(self) -> None:
        admitted = self._ledger.members.is_admitted(self._me)
        if self._admitted and not admitted:
            self._say(
                "this node is not admitted any more: its ticket was used too often, or taken back; it works no more"
            )
        self._admitted = admitted

    def _tell_quarantine(self) -> None:
        standing = self._ledger.trust.standing(self._me)
        if standing.quarantined and not self._quarantined:
            self._say(f"{standing.why}; verifiers look at this node's captions first")
        if self._quarantined and not standing.quarantined:
            self._say("this node's captions count again: verifiers have looked at enough of them")
        self._quarantined = standing.quarantined
