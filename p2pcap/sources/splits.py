"""Which files of a dataset belong to a configuration and a split: as its card says, else by the usual names.

The rules are those of the library `datasets` (its documentation, "Structure your repository"), told here anew because
that library is for the reading process alone; a test compares the two. The card is a stranger's text.

Always holds: matching takes time that grows with pattern times path, whatever the pattern is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml

from p2pcap.errors import ConfigError

MAX_CARD = 1024 * 1024
"""Bytes of a card that are read; its data stands at its beginning."""

MAX_PATTERNS = 20_000
"""Patterns of a configuration: a card may name each of its files."""

MAX_WILD = 1_000
"""Patterns of a configuration that hold a wildcard."""

IGNORED = frozenset({"README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"})
"""Files that describe a dataset and are none of its data."""

SPLITS = {
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
SHARD = re.compile(r"data/([^/]*?)-\d{5}-of-\d{5}[^/]*\.[^/]*", re.S)
EDGE = "[-._ 0-9]"


@dataclass(frozen=True)
class Config:
    """A configuration of a card: patterns of its files by split, empty where the usual names hold, below `folder`."""

    patterns: Mapping[str, Sequence[str]]
    folder: str


def chosen(card: bytes, paths: Iterable[str], config: str, split: str) -> set[str]:
    """The paths that belong to the configuration and the split; an empty split takes those of all.

    Raises ConfigError when the dataset has no such configuration or split, naming those that it has.
    """
    found = _chosen(card, config)
    data = [path for path in paths if is_data(path)]
    if found and found.patterns:
        by_split = {name: matching(patterns, data) for name, patterns in found.patterns.items()}
    else:
        folder = f"{found.folder}/" if found and found.folder else ""
        below = [path.removeprefix(folder) for path in data if path.startswith(folder)]
        named = usual(below) if split else {"": set(below)}
        by_split = {name: {folder + path for path in paths} for name, paths in named.items()}
    if not split:
        return set().union(*by_split.values())
    if split not in by_split:
        raise ConfigError(f"The dataset has no split {split!r}; it has {_names(by_split)}. Change images.split.")
    return by_split[split]


def is_data(path: str) -> bool:
    """Neither hidden, nor in a folder of tools, nor a description of the dataset."""
    parts = path.split("/")
    special = any(part.startswith(".") for part in parts) or any(part.startswith("__") for part in parts[:-1])
    return not special and parts[-1] not in IGNORED


def matching(patterns: Sequence[str], paths: Sequence[str]) -> set[str]:
    """The paths that one of the patterns matches."""
    wild = [pattern for pattern in patterns if any(sign in pattern for sign in "*?[")]
    if len(wild) > MAX_WILD:
        raise ConfigError(f"The dataset's card has over {MAX_WILD} patterns. Name the files in images.source instead.")
    exact = set(patterns) - set(wild)
    return {path for path in paths if path in exact or any(matches(pattern, path) for pattern in wild)}


def matches(pattern: str, path: str) -> bool:
    """`*`, `?` and `[…]` stand for something within one name; `**` for any folders, also none."""
    wanted, parts = pattern.split("/"), path.split("/")
    reached = {0}
    for index, want in enumerate(wanted):
        if want == "**":
            last = index == len(wanted) - 1
            reached = set(range(min(reached) + last, len(parts) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatchcase(parts[at], want)}
    return len(parts) in reached


def usual(paths: Sequence[str]) -> dict[str, set[str]]:
    """Paths by split, by the names of shards, else of folders, else of files; all are "train" where none tells."""
    shards = [(match[1], path) for path in paths if (match := SHARD.fullmatch(path))]
    if shards:
        return {name: {path for split, path in shards if split == name} for name in sorted(dict(shards))}
    for rule in (_in_folder, _in_name):
        named = {name: {path for path in paths if rule(words, path)} for name, words in SPLITS.items()}
        if any(named.values()):
            return {name: found for name, found in named.items() if found}
    return {"train": set(paths)}


def _in_folder(words: str, path: str) -> bool:
    word = re.compile(f"(?:.*{EDGE})?(?:{words})(?:{EDGE}.*)?", re.S)
    return any(word.fullmatch(part) for part in path.split("/")[:-1])


def _in_name(words: str, path: str) -> bool:
    return re.fullmatch(f"(?:.*{EDGE})?(?:{words}){EDGE}.*", path.rsplit("/", 1)[-1], re.S) is not None


def _chosen(card: bytes, name: str) -> Config | None:
    try:
        return _configuration([dict(entry) for entry in _front(card).get("configs") or []], name)
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"The dataset's card has configurations that cannot be read ({type(error).__name__}). "
            "Name the files in images.source instead: hf://datasets/OWNER/NAME/PATTERN."
        ) from error


def _front(card: bytes) -> dict[str, Any]:
    """The YAML between the first two lines of dashes. Not by PyYAML's faster loader in C: a hundred thousand brackets
    overflow its stack and end the process, where the one in Python raises RecursionError."""
    lines = card.decode("utf-8", "replace").splitlines()
    if not lines or lines[0].rstrip() != "---" or "---" not in lines[1:]:
        return {}
    text = "\n".join(lines[1 : lines.index("---", 1)])
    return yaml.safe_load(text) or {}


def _configuration(listed: Sequence[Mapping[str, Any]], name: str) -> Config | None:
    """The configuration of that name; without one, the default one, or the only one."""
    by_name = {str(entry["config_name"]): entry for entry in listed}
    if name and name not in by_name and (listed or name != "default"):
        raise ConfigError(
            f"The dataset has no configuration {name!r}; it has {_names(by_name) or 'none'}. Change images.config."
        )
    if name or not listed:
        return _config(by_name[name]) if name in by_name else None
    default = [key for key, entry in by_name.items() if len(by_name) == 1 or key == "default" or entry.get("default")]
    if not default:
        raise ConfigError(f"The dataset has several configurations. Set images.config to one of {_names(by_name)}.")
    return _config(by_name[default[0]])


def _config(entry: Mapping[str, Any]) -> Config:
    folder = str(entry.get("data_dir") or "").strip("/")
    patterns = {
        split: [f"{folder}/{pattern}" if folder else pattern for pattern in _flat(paths)]
        for split, paths in _by_split(entry.get("data_files"))
    }
    if sum(map(len, patterns.values())) > MAX_PATTERNS:
        raise ValueError("too many patterns")
    return Config(patterns, folder)


def _by_split(files: Any) -> Iterable[tuple[str, Any]]:
    """The three forms that a card may give: patterns, patterns by split, a list of both by name."""
    if isinstance(files, Mapping):
        return [(str(split), paths) for split, paths in files.items()]
    if isinstance(files, list) and any(isinstance(entry, Mapping) for entry in files):
        return [(str(entry["split"]), entry["path"]) for entry in files]
    return [("train", files)] if files else []


def _flat(paths: Any) -> list[str]:
    found = [paths] if isinstance(paths, str) else list(paths)
    if len(found) > MAX_PATTERNS or not all(isinstance(path, str) for path in found):
        raise ValueError("too many patterns, or none")
    if any("://" in path for path in found):
        raise ValueError("a pattern leads elsewhere")
    return [path.removeprefix("./") for path in found]


def _names(found: Iterable[str]) -> str:
    listed = sorted(found)
    return ", ".join(listed[:20]) + (", …" if len(listed) > 20 else "")
