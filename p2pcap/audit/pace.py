"""How much of an engine's work may be checks, while there is work of its own. Pure."""

OWN_FOR_ONE = 2
"""Own images for each item that is checked meanwhile. A check costs no more than a caption, so captioning keeps two
thirds of the engine at the very least; the shares that are drawn ask for far less once authors are known."""

SAVED = 16
"""Checks that may be made at once after a time without any."""

AT_ONCE = 2
"""Items with the engine at one time while it captions: its batch stays its own."""


class Pace:
    """Counts own images against checks."""

    def __init__(self, made: int) -> None:
        self._made = made
        self._saved = float(SAVED)

    def may(self, made: int, busy: bool) -> bool:
        """Whether one more item may be checked now, `made` own images having been made so far."""
        self._saved = min(SAVED, self._saved + (made - self._made) / OWN_FOR_ONE)
        self._made = made
        return not busy or self._saved >= 1

    def took(self, busy: bool) -> None:
        """One is being checked."""
        if busy:
            self._saved -= 1
