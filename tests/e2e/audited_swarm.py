"""A swarm of real processes whose captions are checked: a verifier with an engine of its own, and a crowd that shares
another one (tests.e2e.crowd)."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from demo.processes import Processes, Running
from p2pcap.codec import encode
from p2pcap.envelope import seal
from p2pcap.identity import Identity
from p2pcap.paths import NodePaths
from p2pcap.project.audit import NO_LIMIT, Audit, Bound, Honest, Limits
from p2pcap_bootstrap.workspace import Workspace
from tests.e2e.swarm_of_processes import PATIENCE, PROMPT, SHAPES, SwarmOfProcesses

MOST = 100_000
"""Rows of an answer, at most: more than any test has images."""

LIMITS = Limits(cap=5_000, unsure=Bound(20, 300, 1_000), bad=Bound(200, 1_500, 900), plain=Bound(2_000, NO_LIMIT, 500))
AUDIT = Audit("tokens", Honest(5_000, 0, 0), (), 3, limits=(LIMITS,))
"""The shipped model is certain of nearly every token."""


class AuditedSwarm(SwarmOfProcesses):
    """A project over `images` whose `verifiers`, by name, check what the others caption, by AUDIT. Where nobody has
    `calibrated` it is not served yet either."""

    def __init__(
        self, processes: Processes, folder: Path, images: Path, verifiers: Sequence[str], calibrated: bool = True
    ) -> None:
        self.processes = processes
        self.folder = folder
        self.project = folder / "project"
        drawn = map(json.loads, (images.parent / "truth.jsonl").read_text(encoding="utf-8").splitlines())
        self._truth: dict[str, str] = {one["sha256"]: one["captions"][PROMPT] for one in drawn}
        given = ("--images", str(images), "--model", str(SHAPES), "--prompt", PROMPT, "--name", "e2e")
        small = ("--chunk", "64", "--dtype", "float32", "--max-tokens", "48")
        processes.run("project", "init", str(self.project), *given, *small)
        named = "".join(f"\n  - {self.key_of(name).peer_id}" for name in verifiers)
        with (self.project / "project.yaml").open("a", encoding="utf-8") as file:
            file.write(f"\nverifiers:{named}\n")
        processes.run("project", "sign", str(self.project))
        if calibrated:
            _calibrate(Workspace(self.project))
            self.serve()

    def key_of(self, name: str) -> Identity:
        """The key of the node of that name, made if there is none yet."""
        return Identity.load_or_create(NodePaths(self.folder / name).key)

    def crowd(self, names: Sequence[str], after: int = 0) -> Running:
        """Start volunteers that share an engine; the one called "cheat" turns bad `after` so many answers."""
        given = (self.ticket, str(self.folder), ",".join(names), str(after))
        prefix = (sys.executable, "-m", "tests.e2e.crowd")
        return self.processes.start(f"crowd-{names[0]}", self.folder / names[0], *given, prefix=prefix)

    def of_crowd(self, crowd: Running, name: str) -> Running:
        """One of a crowd's volunteers."""
        return Running(name, self.folder / name, crowd.process, crowd.log)

    def lies(self, name: str = "cheat") -> set[str]:
        """The images, by hash in hex, about which it lied: what it says of all of them is true of some."""
        path = self.folder / f"{name}.lies"
        said = [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        return {image for image, text in said if self._truth[image] != text}

    def ask(self, node: Running, sql: str) -> list[dict[str, object]]:
        """The rows of a query."""
        found: list[dict[str, object]] = json.loads(
            self.processes.run("query", sql, "--json", "--rows", str(MOST), "--node", str(node.directory))
        )
        return found

    def wait_until_no_lie(self, node: Running, name: str = "cheat") -> None:
        """Wait until no row of the node is one of its lies."""
        lies, deadline = self.lies(name), time.monotonic() + PATIENCE
        said = f"SELECT image FROM captions WHERE author_name = '{name}'"
        while found := lies & {str(row["image"]) for row in self.ask(node, said)}:
            node.check()
            assert time.monotonic() < deadline, f"{node.name} still has {len(found)} lies"

    def exported(self, node: Running) -> list[dict[str, object]]:
        """The rows of an export by that node."""
        file = self.folder / f"{node.name}.jsonl"
        self.processes.run("export", "jsonl", str(file), "--node", str(node.directory))
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _calibrate(workspace: Workspace) -> None:
    """Sign the plan with AUDIT."""
    project = workspace.project()
    stages = tuple(msgspec.structs.replace(stage, audit=AUDIT) for stage in project.stages)
    plan = encode(msgspec.structs.replace(project.plan, stages=stages))
    with workspace.signing() as signing:
        signing.hold(project)
        manifest = msgspec.structs.replace(project.manifest, plan=signing.put(plan), length=len(plan))
        signing.keep(project.root_envelope, seal(workspace.coordinator(), "manifest", manifest))
