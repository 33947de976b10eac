"""The repositories of the fake Hub: commits of files, each file with the names that git and LFS give to its content."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = bytes | Path

TEXT = (".md", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".py", ".gitattributes")
"""Files that the Hub keeps in git itself; others are LFS files."""

PART = 1024 * 1024


@dataclass
class Entry:
    """A file of a repository: where its bytes are, and its names by content."""

    content: Content
    size: int
    sha256: str
    oid: str
    lfs: bool

    @classmethod
    def of(cls, path: str, content: Content) -> "Entry":
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for part in parts_of(content, 0, size):
            sha256.update(part)
            git.update(part)
        return cls(content, size, sha256.hexdigest(), git.hexdigest(), not path.endswith(TEXT))


def parts_of(content: Content, start: int, length: int) -> Iterator[bytes]:
    """The bytes, in parts."""
    if isinstance(content, bytes):
        yield content[start : start + length]
        return
    with content.open("rb") as file:
        file.seek(start)
        while length and (part := file.read(min(PART, length))):
            length -= len(part)
            yield part


@dataclass
class Repository:
    """Its commits, oldest first; "main" is the newest. `gated` asks for a token that was let in, `private` hides it."""

    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def commit(self, name: str, entries: dict[str, Entry]) -> str:
        """The new commit's name: 40 hex digits."""
        names = "\n".join(f"{path} {entry.sha256}" for path, entry in entries.items())
        revision = hashlib.sha1(f"{name} {len(self.commits)}\n{names}".encode(), usedforsecurity=False).hexdigest()
        self.commits[revision] = entries
        return revision


def listing(files: dict[str, Entry], prefix: str, deep: bool) -> list[dict[str, Any]]:
    """Files and folders below `prefix`, in order of their paths."""
    found: dict[str, dict[str, Any]] = {}
    for path, entry in files.items():
        if not path.startswith(prefix):
            continue
        parents = path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parents) + 1 if deep else min(len(parents), 1) + 1):
            folder = prefix + "/".join(parents[:depth])
            found[folder] = folder_entry(folder)
        if deep or not parents:
            found[path] = described(path, entry)
    return [found[path] for path in sorted(found)]


def folder_entry(path: str) -> dict[str, Any]:
    oid = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def described(path: str, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.lfs:
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    return found
