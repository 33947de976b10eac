"""The fake Hub, which also takes what clients push: new repositories, files by LFS, and commits.

It answers what `huggingface_hub` asks for `create_repo` and `create_commit`, with the Hub's own paths and forms: the
check of the card's head, the question which files are large, LFS's batch with an upload each and its check, and the
commit as lines of JSON. `commits` are all that were made here, with the paths each one added and deleted.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import yaml

from tests.sources.fake_hub import FakeHub, Handler
from tests.sources.fake_repository import TEXT, Entry, Repository

WRITES = re.compile(r"/api/datasets/(?P<repo>[\w.-]+/[\w.-]+)/(?P<verb>preupload|commit)/main")
BATCH = re.compile(r"/datasets/(?P<repo>[\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch")


@dataclass(frozen=True)
class Commit:
    """A commit that a client made."""

    repo: str
    message: str
    added: tuple[str, ...]
    deleted: tuple[str, ...]


class WritableHub(FakeHub):
    """A fake Hub whose `tokens` may write."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commits: list[Commit] = []
        self.large: dict[str, bytes] = {}
        self.handler = _Handler


class _Handler(Handler):
    hub: ClassVar[WritableHub]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        oid = urlsplit(self.path).path.removeprefix("/upload/")
        if hashlib.sha256(data).hexdigest() != oid:
            self._refuse(400, "BadUpload", "The content has another hash.")
            return
        self.hub.large[oid] = data
        self._send(200, b"", {})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.command != "POST":
            super()._answer()
        elif due := self.hub.failure(path):
            self._send(due[0], b"", due[1])
        elif path == "/api/validate-yaml":
            self._validate(json.loads(self.body)["content"])
        elif path == "/verify":
            self._json({})
        elif path == "/api/repos/create" or (found := WRITES.fullmatch(path) or BATCH.fullmatch(path)):
            if self.token not in self.hub.tokens:
                self._refuse(401, "", "Invalid credentials in Authorization header")
            elif path == "/api/repos/create":
                self._create(json.loads(self.body))
            elif found and "verb" not in found.groupdict():
                self._batch(json.loads(self.body))
            elif found and found["verb"] == "preupload":
                self._preupload(found["repo"], json.loads(self.body)["files"])
            elif found:
                self._commit(found["repo"], [json.loads(line) for line in self.body.splitlines() if line])
        else:
            super()._answer()

    def _validate(self, content: str) -> None:
        """What the Hub asks of a card's head."""
        head = yaml.safe_load(content.split("---\n")[1])
        wrong = [] if re.fullmatch(r"[a-z0-9.-]+", head.get("license", "other")) else ["license"]
        wrong += [] if isinstance(head["size_categories"], str | list) else ["size_categories"]
        body = {"errors": [{"message": f'"{name}" must be valid'} for name in wrong], "warnings": []}
        self._send(400 if wrong else 200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self._refuse(409, "", "You already created this dataset repo")
            return
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=private)
        self.hub.commit(name, {".gitattributes": b"*.parquet filter=lfs\n"})
        self._json({"url": f"{self.hub.url}/datasets/{name}", "name": name})

    def _preupload(self, repo: str, files: list[dict[str, Any]]) -> None:
        held = self._held(repo)
        self._json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "regular" if file["path"].endswith((*TEXT, ".cff")) else "lfs",
                        "shouldIgnore": False,
                        "oid": held[file["path"]].oid if file["path"] in held else None,
                    }
                    for file in files
                ]
            }
        )

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.url}/upload/{one['oid']}"},
                "verify": {"href": f"{self.hub.url}/verify"},
            }
            objects.append(one if one["oid"] in self.hub.large else {**one, "actions": actions})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        entries = dict(self._held(repo))
        added, deleted, message = [], [], ""
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    message = value["summary"]
                case "file":
                    entries[value["path"]] = Entry.of(value["path"], base64.b64decode(value["content"]))
                    added.append(value["path"])
                case "lfsFile":
                    entries[value["path"]] = Entry.of(value["path"], self.hub.large[value["oid"]])
                    added.append(value["path"])
                case "deletedFile":
                    del entries[value["path"]]
                    deleted.append(value["path"])
        oid = self.hub.repositories[repo].commit(repo, dict(sorted(entries.items())))
        self.hub.commits.append(Commit(repo, message, tuple(added), tuple(deleted)))
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{oid}"})

    def _held(self, repo: str) -> dict[str, Entry]:
        found = self.hub.repositories[repo]
        return found.commits[found.head]
