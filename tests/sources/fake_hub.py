"""A Hub of Hugging Face on loopback: what clients ask of the real one for repositories of data sets, with byte counts.

`huggingface_hub`, `datasets` and p2pcap run unmodified against it, in this process and in children, by the variables of
`FakeHub.environment` (in this process: `monkeypatch.setenv` each; `huggingface_hub` reads some when it is imported, so
p2pcap names the endpoint in each call). As on the real Hub, big and binary files are behind a redirect to a signed
address, small text files behind a relative redirect, and listings come in pages. It listens on loopback only and
nothing in it is secret.
"""

import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.sources.fake_repository import Content, Entry, Repository, described, folder_entry, listing, parts_of

PAGE = 1_000
"""Entries of a page of a listing, as on the Hub."""

ROUTES = re.compile(
    r"/(?P<api>api/)?(?P<kind>datasets/|models/)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:/(?P<verb>revision|tree|paths-info|refs|resolve|auth-check))?(?:/(?P<rest>.*))?",
    re.S,
)


@dataclass(frozen=True)
class Asked:
    """A request as it came: its path still quoted, without the query, and what was answered."""

    method: str
    path: str
    range: str
    token: str
    status: int


class FakeHub:
    """`with FakeHub({"owner/name": {path: bytes or Path}}) as hub:` serves these at `hub.url`.

    `hub.requests` is all that was asked, `hub.bytes_of(path)` the bytes of that file (of whatever repository) that
    were sent, `hub.sent` those of all files.
    """

    def __init__(
        self,
        repositories: Mapping[str, Mapping[str, Content]],
        gated: tuple[str, ...] = (),
        private: tuple[str, ...] = (),
        tokens: tuple[str, ...] = (),
        page: int = PAGE,
    ) -> None:
        self.repositories = {name: Repository(gated=name in gated, private=name in private) for name in repositories}
        self.tokens = tokens
        self.page = page
        self.requests: list[Asked] = []
        self.lock = threading.Lock()
        self.signature = 0
        self.handler: type[Handler] = Handler
        self._moved: dict[str, int] = {}
        self._failures: list[tuple[str, int, dict[str, str]]] = []
        for name, files in repositories.items():
            self.commit(name, files)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), type("_BoundHandler", (self.handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The endpoint, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a process takes this for the Hub; without a token of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
            "HF_TOKEN_PATH": "/nonexistent/token",
            "HF_TOKEN": "",
            "HUGGING_FACE_HUB_TOKEN": "",
            "HUGGINGFACE_HUB_TOKEN": "",
        }

    @property
    def sent(self) -> int:
        """Bytes of files that were sent, all together; listings and cards' answers by the API do not count."""
        with self.lock:
            return sum(self._moved.values())

    def commit(self, repo: str, files: Mapping[str, Content]) -> str:
        """Make these the repository's files; earlier commits stay. The new commit."""
        entries = {path: Entry.of(path, content) for path, content in sorted(files.items())}
        return self.repositories[repo].commit(repo, entries)

    def revision(self, repo: str) -> str:
        """The newest commit: 40 hex digits."""
        return self.repositories[repo].head

    def bytes_of(self, path: str) -> int:
        """Bytes of this file that were sent."""
        with self.lock:
            return self._moved.get(path, 0)

    def asked(self, part: str, method: str = "GET") -> int:
        """Requests with `part` in their unquoted path."""
        with self.lock:
            return sum(part in unquote(one.path) and one.method == method for one in self.requests)

    def expire(self) -> None:
        """Every signed address given out so far is refused from now on."""
        self.signature += 1

    def fail(self, part: str, status: int, times: int = 1, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next `times` requests with `part` in their unquoted path with `status`."""
        with self.lock:
            self._failures += [(part, status, dict(headers or {}))] * times

    def failure(self, path: str) -> tuple[int, dict[str, str]] | None:
        """The failure that is due for this path, used up by asking."""
        with self.lock:
            for index, (part, status, headers) in enumerate(self._failures):
                if part in unquote(path):
                    del self._failures[index]
                    return status, headers
        return None

    def count(self, path: str, length: int) -> None:
        with self.lock:
            self._moved[path] = self._moved.get(path, 0) + length


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.open: set[socket.socket] = set()

    def hang_up(self) -> None:
        """Clients keep connections open; their threads end with them."""
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was quicker

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is the tests' daily bread."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. One that answers more builds on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    hub: ClassVar[FakeHub]

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.server.open.discard(self.connection)  # type: ignore[attr-defined]
        super().finish()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        due = self.hub.failure(parts.path)
        if due:
            self._send(due[0], b"", due[1])
        elif parts.path.startswith("/cdn/"):
            self._signed(unquote(parts.path.removeprefix("/cdn/")))
        elif parts.path.startswith("/api/resolve-cache/"):
            self._kept(parts.path.removeprefix("/api/resolve-cache/"))
        elif route := ROUTES.fullmatch(parts.path):
            self._route(route["repo"], route["verb"] or "revision", route["rest"] or "", bool(route["api"]))
        else:
            self._refuse(404, "EntryNotFound", "No such page.")

    def _route(self, repo: str, verb: str, rest: str, api: bool) -> None:
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and self.token not in self.hub.tokens):
            self._refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        elif verb in ("resolve", "auth-check") and found.gated and self.token not in self.hub.tokens:
            self._refuse(403 if self.token else 401, "GatedRepo", f"Access to dataset {repo} is restricted.")
        elif verb == "refs":
            branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": found.head}]
            self._json({"branches": branches, "tags": [], "converts": []})
        elif verb == "auth-check":
            self._json({})
        else:
            self._at_revision(repo, found, verb, rest)

    def _at_revision(self, repo: str, found: Repository, verb: str, rest: str) -> None:
        name, _, path = rest.partition("/")
        name, path = unquote(name) or "main", unquote(path)
        revision = found.head if name == "main" else name
        files = found.commits.get(revision)
        if files is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        elif verb == "resolve":
            self._resolve(repo, revision, files, path)
        elif verb == "tree":
            self._tree(files, path)
        elif verb == "paths-info":
            self._paths_info(files)
        else:
            siblings = [{"rfilename": path} for path in files]
            gated = "auto" if found.gated else False
            self._json({"id": repo, "sha": revision, "private": found.private, "gated": gated, "siblings": siblings})

    def _tree(self, files: dict[str, Entry], folder: str) -> None:
        deep = self.query.get("recursive", "").lower() == "true"
        listed = listing(files, f"{folder}/" if folder else "", deep)
        if folder and not listed:
            self._refuse(404, "EntryNotFound", f"{folder} does not exist")
            return
        start = int(self.query.get("cursor", "0"))
        end = start + self.hub.page
        headers = {}
        if end < len(listed):
            address = f"{self.hub.url}{urlsplit(self.path).path}?recursive={deep}&expand=False&cursor={end}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._json(listed[start:end], headers)

    def _paths_info(self, files: dict[str, Entry]) -> None:
        if "json" in (self.headers.get("Content-Type") or ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        found = []
        for path in paths:
            if path in files:
                found.append(described(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                found.append(folder_entry(path))
        self._json(found)

    def _resolve(self, repo: str, revision: str, files: dict[str, Entry], path: str) -> None:
        entry = files.get(path)
        if entry is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        etag = entry.sha256 if entry.lfs else entry.oid
        headers = {"X-Repo-Commit": revision, "X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{etag}"'}
        place = f"{repo}/{revision}/{quote(path)}"
        if entry.lfs:
            headers["Location"] = f"{self.hub.url}/cdn/{place}?Expires=9999999999&Signature={self.hub.signature}"
            self._send(302, b"", headers)
        else:
            headers["Location"] = f"/api/resolve-cache/datasets/{place}"
            headers["ETag"] = f'"{etag}"'
            self._send(307, b"", headers)

    def _signed(self, place: str) -> None:
        if self.query.get("Signature") != str(self.hub.signature):
            self._send(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
        else:
            self._content(place)

    def _kept(self, place: str) -> None:
        self._content(unquote(place.removeprefix("datasets/")))

    def _content(self, place: str) -> None:
        owner, name, revision, path = place.split("/", 3)
        entry = self.hub.repositories[f"{owner}/{name}"].commits[revision][path]
        etag = f'"{entry.sha256 if entry.lfs else entry.oid}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "X-Repo-Commit": revision}
        wanted = self.headers.get("Range")
        if wanted is None or self.headers.get("If-Range") not in (None, etag):
            self._bytes(200, path, entry, 0, entry.size, headers)
            return
        start, end = _range(wanted, entry.size)
        if start >= end:
            self._send(416, b"", headers | {"Content-Range": f"bytes */{entry.size}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{entry.size}"
        self._bytes(206, path, entry, start, end - start, headers)

    def _bytes(self, status: int, path: str, entry: Entry, start: int, length: int, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(length), "Content-Type": "application/octet-stream"})
        if self.command == "HEAD":
            return
        for part in parts_of(entry.content, start, length):
            self.hub.count(path, len(part))  # first: whoever has received it may ask at once
            self.wfile.write(part)

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self._send(status, body, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        path = urlsplit(self.path).path
        asked = Asked(self.command, path, self.headers.get("Range") or "", self.token, status)
        with self.hub.lock:
            self.hub.requests.append(asked)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _range(text: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last that a Range header asks for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if match is None:
        return 0, size
    first, last = match.groups()
    if not first:
        return max(0, size - int(last or 0)), size
    return int(first), min(size, int(last) + 1) if last else size
