"""Where a component's configuration file is looked for: one rule for all components, and the first match wins.

    --config FILE                                    what the command line names
    ./COMPONENT.yaml                                 the current folder
    ~/.p2pcap/COMPONENT.yaml
    $XDG_CONFIG_HOME/p2pcap/COMPONENT.yaml           ~/.config unless told otherwise
    /etc/p2pcap/COMPONENT.yaml
    DIRECTORY/p2pcap/COMPONENT.yaml                  each of $XDG_CONFIG_DIRS, /etc/xdg unless told otherwise
    ./examples/COMPONENT.yaml                        with a warning

Files are not merged. Always holds: a file that was found without being named belongs to this user or to root, and not
everybody may write it, since whoever starts a program in a folder for all would else obey its other users.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from p2pcap.errors import ConfigError
from p2pcap.paths import expanded

Component = Literal["project", "node", "tui"]
"""project: what a maintainer signs. node: how a node runs. tui: how a node is shown on a terminal."""

COMPONENTS: tuple[Component, ...] = get_args(Component)

SYSTEM = Path("/etc")


@dataclass(frozen=True)
class Place:
    """Where a file may be. `here`: in the current folder, or below it; `example`: one that only shows what may be
    said."""

    path: Path
    here: bool = False
    example: bool = False


@dataclass(frozen=True)
class Found:
    """The file in use, its whole path. `here`: nobody named it, it lay in the current folder; `example`: it is one."""

    component: Component
    path: Path
    here: bool = False
    example: bool = False

    @property
    def told(self) -> str:
        """One line for people: which file is in use."""
        if not self.example:
            return f"configuration: {self.path}"
        return f"warning: the example {self.path} is in use. Copy it to ./{self.path.name} and make it your own."


def places(component: Component) -> list[Place]:
    """Where a file that nobody named is looked for, in order. What is below the home of a user who has none is left
    out. Nothing is read."""
    name = f"{component}.yaml"
    folders = [*_homely(".p2pcap"), *_users(), SYSTEM / "p2pcap", *_systems()]
    found = [Place(Path(name), here=True), *(Place(folder / name) for folder in folders)]
    return list(dict.fromkeys([*found, Place(Path("examples") / name, here=True, example=True)]))


def discover(component: Component, named: Path | None = None) -> Found | None:
    """The file in use: the one that was named, else the first there is. Whether it can be read is not known yet.
    /dev/null stands for no file at all.

    Raises ConfigError when one that was found in the current folder may be somebody else's.
    """
    if named is not None:
        return None if str(named) == os.devnull else Found(component, _whole(expanded(named)))
    for place in places(component):
        if os.path.lexists(place.path):  # a link to nowhere is an error, and no reason to go on to the next place
            if place.here:
                _check_owner(place.path)
            return Found(component, _whole(place.path), place.here, place.example)
    return None


def nowhere(component: Component) -> str:
    """What to say when no file was found."""
    tried = ", ".join(str(place.path) for place in places(component))
    how = "the folder that holds it, or the file with --config" if component == "project" else "one with --config"
    return f"There is no {component}.yaml: looked for {tried}. Name {how}."


def _homely(name: str) -> list[Path]:
    """A folder in the user's home, if he has one."""
    try:
        return [expanded(f"~/{name}")]
    except ConfigError:
        return []


def _users() -> list[Path]:
    return [folder / "p2pcap" for folder in _listed("XDG_CONFIG_HOME", single=True) or _homely(".config")]


def _systems() -> list[Path]:
    return [folder / "p2pcap" for folder in _listed("XDG_CONFIG_DIRS") or [SYSTEM / "xdg"]]


def _listed(variable: str, single: bool = False) -> list[Path]:
    """The folders that a variable names; relative ones do not count (XDG Base Directory Specification)."""
    text = os.environ.get(variable, "")
    return [Path(folder) for folder in ([text] if single else text.split(":")) if folder.startswith("/")]


def _whole(path: Path) -> Path:
    """The whole path. Raises ConfigError when the current folder was removed."""
    try:
        return path.absolute()
    except OSError as error:
        raise ConfigError(f"The current folder is gone, so {path} cannot be found. Enter another one.") from error


def _check_owner(path: Path) -> None:
    try:
        held, owners = path.stat(), {path.stat().st_uid, path.lstat().st_uid}
    except OSError:
        return  # whoever reads it says why it cannot be read
    if not owners <= {os.getuid(), 0} or held.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{_whole(path)} belongs to another user, or everybody may write it. If you trust it, name it on the "
            "command line."
        )
