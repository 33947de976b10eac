"""Where everything lives: a node's folder, and the place where running nodes can be found.

A node keeps all it has in one folder: moving or deleting the folder moves or deletes the node. Its control socket lies
elsewhere, because the path of a Unix socket has at most 107 bytes: in a folder only this user can enter, under a short
hash of the node's folder, with a small JSON file beside it that says whose it is.

Always holds: the socket's folder belongs to this user and nobody else may enter it.
"""

import hashlib
import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from p2pcap.errors import ConfigError

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux, the final NUL not counted (unix(7))."""


def home() -> Path:
    """The folder for all of this user's nodes: $P2PCAP_HOME, else the platform's place for a program's data. Raises
    ConfigError for a user who has no home."""
    if chosen := os.environ.get("P2PCAP_HOME"):
        return expanded(chosen).absolute()
    import platformdirs

    try:
        place = platformdirs.user_data_path("p2pcap", appauthor=False)
    except RuntimeError:
        place = Path("~")
    if not place.is_absolute():  # where there is no home, some versions of platformdirs raise, others leave the "~"
        raise ConfigError("You have no home folder for p2pcap to keep its nodes in. Set HOME or P2PCAP_HOME.")
    return place


def expanded(path: Path | str) -> Path:
    """The path with `~` and `~user` replaced. Raises ConfigError when there is no such home, or no such path."""
    try:
        found = Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{path} cannot be found: there is no such user, or no HOME. Write the whole path."
        ) from error
    if "\0" in str(path):
        raise ConfigError(f"{str(path)!r} is no path: it holds a NUL. Write another one.")
    return found


def project_node(home: Path, project_hash: bytes) -> Path:
    """The folder of the node that takes part in the project with this root hash."""
    return home / "projects" / project_hash.hex()[:16]


@dataclass(frozen=True)
class NodePaths:
    """What lies in a node's folder. Making one touches no disk."""

    directory: Path

    @property
    def key(self) -> Path:
        """The node's secret key."""
        return self.directory / "node.key"

    @property
    def database(self) -> Path:
        """The ledger: every statement, body and caption."""
        return self.directory / "ledger.duckdb"

    @property
    def images(self) -> Path:
        """Cached images, by hash."""
        return self.directory / "images"

    @property
    def models(self) -> Path:
        """Models that came through the swarm, by hash."""
        return self.directory / "models"

    @property
    def local_images(self) -> Path:
        """Where in a local folder the project's images are."""
        return self.directory / "local.sqlite"

    @property
    def scratch(self) -> Path:
        """Passing files; whatever is in it when the node starts is removed."""
        return self.directory / "scratch"

    @property
    def log(self) -> Path:
        """The node's log, one JSON object a line."""
        return self.directory / "node.jsonl"

    @property
    def earlier_log(self) -> Path:
        """What the log held before it grew too long."""
        return self.directory / "node.jsonl.1"

    @property
    def engine_log(self) -> Path:
        """What vLLM prints."""
        return self.directory / "engine.log"

    @property
    def audit_secret(self) -> Path:
        """What decides which captions of others are checked here."""
        return self.directory / "audit.secret"

    @property
    def ticket(self) -> Path:
        """The ticket the node was started with."""
        return self.directory / "ticket"

    @property
    def consent(self) -> Path:
        """What the user agreed to when the node joined."""
        return self.directory / "consent"

    @property
    def finished(self) -> Path:
        """For which finish the user's command was run."""
        return self.directory / "finished"

    @property
    def finished_log(self) -> Path:
        """What that command printed."""
        return self.directory / "finished.log"

    @property
    def pause(self) -> Path:
        """That the user has paused the node."""
        return self.directory / "pause"

    @property
    def peers(self) -> Path:
        """The peers remembered from last time."""
        return self.directory / "peers.json"

    @property
    def port(self) -> Path:
        """The port the node listened on last."""
        return self.directory / "port"

    @property
    def socket_name(self) -> str:
        """The control socket's name without its ending: a hash of the folder, the same for every spelling of it."""
        place = os.path.realpath(self.directory)  # Path.resolve raises RuntimeError for a loop of links
        return hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


def runtime_directories() -> tuple[Path, ...]:
    """Where control sockets may lie: new ones in the first; the others are looked into as well, because a session may
    lack the environment that another one had. Nothing is created."""
    places = [Path(tempfile.gettempdir()) / f"p2pcap-{os.getuid()}"]
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        places.insert(0, Path(given) / "p2pcap")
    longest = MAX_SOCKET_PATH - len("/0123456789abcdef.sock")
    fitting = tuple(place for place in places if len(os.fsencode(place)) <= longest)
    if not fitting:
        raise ConfigError(f"The folder for sockets, {places[-1]}, has too long a name. Set TMPDIR to a shorter one.")
    return fitting


def own_runtime_directory() -> Path:
    """The folder for new control sockets, made if need be. Raises ConfigError when others could enter it."""
    directory = runtime_directories()[0]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = f"The folder for sockets, {directory}, cannot be made: {error.strerror}."
        raise ConfigError(f"{why} Set XDG_RUNTIME_DIR to a folder of yours.") from error
    if not _is_private(directory):
        raise ConfigError(
            f"{directory} belongs to another user, or others may enter it. Remove it, or run: chmod 700 {directory}"
        )
    return directory


def _is_private(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


@dataclass(frozen=True)
class RunningNode:
    """A node that answers on its control socket."""

    directory: Path
    socket: Path
    pid: int
    project: str
    role: str
    name: str

    def is_called(self, name: str) -> bool:
        """Whether `name` means this node: its name, its role, its project's name, or the name of its folder."""
        return name.casefold() in {
            text.casefold() for text in (self.name, self.role, self.project, self.directory.name)
        }


def running_nodes() -> list[RunningNode]:
    """Every node of this user that runs now, in the order of their folders."""
    records = [
        record
        for directory in runtime_directories()
        if _is_private(directory)
        for record in directory.glob("*.json")
        if answers(record.with_suffix(".sock"))
    ]
    nodes = [node for record in records if (node := _read_record(record))]
    return sorted(nodes, key=lambda node: node.directory)


def running_node(directory: Path) -> RunningNode | None:
    """The node that runs in `directory`."""
    name = NodePaths(directory).socket_name
    return next((node for node in running_nodes() if node.socket.stem == name), None)


def answers(path: Path) -> bool:
    """Whether a program listens on the Unix socket at `path`. One left behind by a dead node refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(5)
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _read_record(path: Path) -> RunningNode | None:
    """What the node wrote beside its socket; None for anything else."""
    import json

    try:
        record = json.loads(path.read_bytes())
        texts = [str(record[field]) for field in ("project", "role", "name")]
        return RunningNode(Path(record["directory"]), path.with_suffix(".sock"), int(record["pid"]), *texts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
