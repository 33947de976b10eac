"""What the swarm has acknowledged: everything ever committed, less what was lost with the only disk that had it.

Always holds: a statement or body is remembered as long as it was, after its last commit, always on some honest disk.
"""

from tests.simulation.store import Disk


class Memory:
    """The disks of all honest nodes by name, and the ids of the statements and bodies that may not be lost."""

    def __init__(self) -> None:
        self.disks: dict[str, Disk] = {}
        self.statements: dict[bytes, None] = {}
        self.bodies: dict[bytes, None] = {}

    def keep(self, id_: bytes, body: bool) -> None:
        """A statement was committed somewhere, with its body or without."""
        self.statements[id_] = None
        if body:
            self.bodies[id_] = None

    def lost(self, name: str, left: Disk) -> None:
        """A disk was replaced. What no disk has any more can be asked of nobody."""
        self.disks[name] = left
        disks = self.disks.values()
        self.statements = {id_: None for id_ in self.statements if any(id_ in disk.statements for disk in disks)}
        self.bodies = {id_: None for id_ in self.bodies if any(id_ in disk.bodies for disk in disks)}
