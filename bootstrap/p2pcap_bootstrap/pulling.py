"""What the swarm has comes into a maintainer's folder: somebody has signed since, in another copy of it.

The next signing here then goes on from there. What was signed here and reached nobody is given up: it does not lead on
from what volunteers have, so none of them would follow it.

Always holds: what is brought was checked from the folder's own first root on, its roots are those in force here or lead
on from them, and it is in the folder whole or not at all. project.yaml, keys and tickets are left alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from p2pcap.envelope import Envelope
from p2pcap.errors import ConfigError, UntrustedError
from p2pcap.node.delivering import remembered
from p2pcap.node.pulling import pull as pull_from
from p2pcap.paths import NodePaths
from p2pcap.project.chunks import page_over
from p2pcap.project.opened import Project, check_follows, coordinators, payload_hash, read_manifest
from p2pcap.project.records import Root
from p2pcap.project.roots import read_chain, write_chain
from p2pcap.project.ticket import Ticket
from p2pcap_bootstrap import config
from p2pcap_bootstrap.changes import changes
from p2pcap_bootstrap.planning import Lists, Unwritten, page_between
from p2pcap_bootstrap.publication import LOG
from p2pcap_bootstrap.signing import make_plan
from p2pcap_bootstrap.workspace import Signing, Workspace

Puller = Callable[..., tuple[Project, bool]]


@dataclass(frozen=True)
class Pulled:
    """What the swarm has: `brought` into the folder, or there already. `before` is the number of the manifest that was
    signed here until now, 0 for none; `root` the root in force here now."""

    project: Project
    brought: bool
    before: int
    root: Root


def pull(workspace: Workspace, peers: Sequence[str], ask: Puller = pull_from) -> Pulled:
    """Bring what the swarm has, from peers at these multiaddrs and those that the coordinator met.

    Raises ConfigError, SwarmError, UntrustedError; nothing is changed then.
    """
    first = workspace.root()
    if first is None:
        raise ConfigError(
            f"{workspace.directory} holds no signed project. Put a backup of it there: p2pcap key import FILE DIRECTORY"
        )
    expected, root = payload_hash(first), workspace.root_in_force()
    held = workspace.manifest()
    before = 0 if held is None else read_manifest(held, expected).version
    known = [*peers, *remembered(NodePaths(workspace.node), time.time())]
    if not known:
        raise ConfigError("No peer of this project is known here. Name one with --peer MULTIADDR.")
    with workspace.signing() as signing:
        place = _Place(workspace, signing)
        project, brought = ask(Ticket(root.name, expected), known, place, workspace.directory / LOG)
        if brought:
            place.keep(project)
    return Pulled(project, brought, before, workspace.root_in_force())


class _Place:
    """Implements `p2pcap.node.pulling.Folder`."""

    def __init__(self, workspace: Workspace, signing: Signing) -> None:
        self._workspace = workspace
        self._signing = signing
        self._chain = workspace.chain()
        self.has, self.blob, self.put = signing.has, signing.blob, signing.put

    def check(self, project: Project) -> None:
        """Its roots are among those here, or lead on from them. Raises UntrustedError."""
        for mine, theirs in zip(self._chain, _chain_of(project), strict=False):
            if mine[0].payload_hash != theirs[0].payload_hash:
                raise UntrustedError(
                    "The swarm goes by another root than this folder: two people have signed with the project's root "
                    "keys. Agree on one, and restore the folder that has it."
                )

    def lacks(self, project: Project) -> bool:
        """Whether what is signed here does not lead on from it, or not all of that is here."""
        try:
            mine = self._workspace.project()
            if not all(self.has(hash_) for hash_ in self._workspace.lists(mine)):
                return True
            alike = mine.root.version == project.root.version  # under a newer root nothing has to be followed
            return mine.version < project.version or (alike and not _follows(mine, project, self.blob))
        except UntrustedError:
            return True  # the plan or a page is gone

    def keep(self, project: Project) -> None:
        """Make it what is signed here. Roots that are signed here and unknown there stay."""
        theirs = _chain_of(project)
        longer = [*theirs, *self._chain[len(theirs) :]]
        roots = write_chain(longer) if sum(map(len, longer)) > 1 else b""
        self._signing.put(project.plan_data)
        self._workspace.draft.unlink(missing_ok=True)  # others have it
        self._signing.keep(project.root_envelope, project.manifest_envelope, roots)


def _chain_of(project: Project) -> list[list[Envelope]]:
    return read_chain(project.roots_data) if project.roots_data else [[project.root_envelope]]


def _follows(new: Project, old: Project, blob: Callable[[bytes], bytes]) -> bool:
    """Whether who has `old` would follow `new`, as far as images and tasks say. Raises UntrustedError."""
    page = page_over(new.plan.chunks, old.plan.chunks)
    try:
        check_follows(new, old, b"" if page is None else blob(page))
    except UntrustedError:
        return False
    return True


def unlike_file(workspace: Workspace, project: Project) -> Iterator[str]:
    """In what project.yaml differs from the project, a line each: the next signing would change that. Images that are
    new are not looked for. Raises ConfigError, ModelError, UntrustedError, SourceError as a signing does."""
    blobs = Unwritten()
    file = config.read(workspace.directory)
    plan = make_plan(workspace, file, project, Lists(blobs, project), lambda count: None, images=False)
    return changes(project.plan, plan, page_between(project.plan, plan, blobs))


def notes(workspace: Workspace, pulled: Pulled) -> Iterator[str]:
    """What stands in the way of the next signing."""
    if not workspace.held(coordinators(pulled.root)):
        yield (
            f"no key in {workspace.keys} is a coordinator's of root {pulled.root.version}. Bring it there, or replace "
            f"it with the root key: p2pcap key rotate {workspace.directory} --coordinator"
        )
