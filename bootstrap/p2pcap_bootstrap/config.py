"""project.yaml: one commented file that says what is to be captioned, and how.

Always holds: a `ProjectFile` that was read is complete, within the protocol's limits, and its stages need nothing that
is not there; what is wrong with one is said with its line, and an unknown or misspelt key with the nearest known one.
"""

import datetime
import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from p2pcap.errors import ConfigError
from p2pcap.yaml_file import compose, construct, read_text
from p2pcap_bootstrap.dependence import check_stages
from p2pcap_bootstrap.faults import line_of, told
from p2pcap_bootstrap.places import Misplaced
from p2pcap_bootstrap.project_file import SECTIONS, ProjectFile

__all__ = ["FILE", "ProjectFile", "parse", "read"]

FILE = "project.yaml"


def read(directory: Path) -> ProjectFile:
    """The project file in `directory`. Raises ConfigError."""
    path = directory / FILE
    return parse(read_text(path, f"Run: p2pcap project init {directory}"), path)


def parse(text: str, path: Path, *, begun: bool = False) -> ProjectFile:
    """The project file with this text; `path` is where people find it. One that is only `begun` may use what it does
    not name yet, such as a field of the images. Raises ConfigError."""
    root = compose(text, path)
    if root is None:
        raise ConfigError(f"{path}: It says nothing. Write name, images, model and prompts into it.")
    try:
        file = msgspec.convert(_timed(construct(root, path)), ProjectFile, strict=True)
        if not begun:
            check_stages(file)
    except msgspec.ValidationError as error:
        fault = told(str(error), SECTIONS)
        raise _told(root, path, str(error), fault if fault.endswith("?") else f"{fault}.") from error
    except Misplaced as error:
        raise _told(root, path, f"at `{error.at}`", str(error)) from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deep. Make it simpler.") from error
    if os.path.expanduser(file.source.source).startswith("~") or "\0" in file.source.source:
        raise ConfigError(f"{path}: images names {file.source.source!r}, which is no path here. Write the whole path.")
    return file


def _told(root: yaml.Node | None, path: Path, where: str, fault: str) -> ConfigError:
    line = line_of(where, root)
    return ConfigError(f"{path}{line and f', line {line}'}: {fault}")


def _timed(plain: Any) -> Any:
    """The file with its deadline as a time in UTC: a date stands for the end of its day."""
    deadline = plain.get("deadline") if isinstance(plain, dict) else None
    if isinstance(deadline, datetime.datetime):
        time = deadline if deadline.tzinfo else deadline.replace(tzinfo=datetime.UTC)
    elif isinstance(deadline, datetime.date):
        last = datetime.datetime.combine(deadline, datetime.time(), datetime.UTC)
        time = last + datetime.timedelta(days=1)
    else:
        return plain
    return plain | {"deadline": time.astimezone(datetime.UTC)}
