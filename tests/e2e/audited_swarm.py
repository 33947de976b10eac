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

LIMITS = Limits(cap=5_000, unsure=Bound(20, 300, 1_000), bad=Bound(200, 1_500, 900), plain=Bound(2_000, NO_LIMIT, 500))
AUDIT = Audit("tokens", Honest(5_000, 0, 0), (), 3, limits=(LIMITS,))
"""The shipped model is certain of nearly every token."""


class AuditedSwarm(SwarmOfProcesses):
    """A project over `images` whose `verifiers`, by name, check what the others caption; with `bans` the coordinator
    bans by itself."""

    def __init__(
        self, processes: Processes, folder: Path, images: Path, verifiers: Sequence[str], bans: bool = True
    ) -> None:
        self.processes = processes
        self.folder = folder
        self.project = folder / "project"
        given = ("--images", str(images), "--model", str(SHAPES), "--prompt", PROMPT, "--name", "e2e")
        small = ("--chunk", "64", "--dtype", "float32", "--max-tokens", "48")
        processes.run("project", "init", str(self.project), *given, *small)
        processes.run("project", "sign", str(self.project))
        _calibrate(Workspace(self.project), [self.key_of(name) for name in verifiers], bans)
        self.serve()

    def key_of(self, name: str) -> Identity:
        """The key of the node of that name, made if there is none yet."""
        return Identity.load_or_create(NodePaths(self.folder / name).key)

    def crowd(self, names: Sequence[str], after: int) -> Running:
        """Start volunteers that share an engine; the one called "cheat" turns bad `after` so many answers."""
        given = (self.ticket, str(self.folder), ",".join(names), str(after))
        prefix = (sys.executable, "-m", "tests.e2e.crowd")
        return self.processes.start("crowd", self.folder / names[0], *given, prefix=prefix)

    def of_crowd(self, crowd: Running, name: str) -> Running:
        """One of a crowd's volunteers."""
        return Running(name, self.folder / name, crowd.process, crowd.log)

    def lies(self, name: str = "cheat") -> set[str]:
        """The images, by hash in hex, about which it lied."""
        path = self.folder / f"{name}.lies"
        return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()

    def ask(self, node: Running, sql: str) -> list[dict[str, object]]:
        """The rows of a query."""
        found: list[dict[str, object]] = json.loads(
            self.processes.run("query", sql, "--json", "--node", str(node.directory))
        )
        return found

    def wait_until(self, node: Running, sql: str, expected: list[dict[str, object]]) -> None:
        """Wait until the node answers a query so."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.ask(node, sql)) != expected:
            node.check()
            assert time.monotonic() < deadline, f"{node.name} has {found}, not {expected}"


def _calibrate(workspace: Workspace, verifiers: Sequence[Identity], bans: bool) -> None:
    """Sign the plan with AUDIT and these verifiers."""
    project = workspace.project()
    stages = tuple(msgspec.structs.replace(stage, audit=AUDIT) for stage in project.stages)
    keys = tuple(identity.public for identity in verifiers)
    policy = msgspec.structs.replace(project.plan.policy, bans=bans)
    plan = encode(msgspec.structs.replace(project.plan, stages=stages, verifiers=keys, policy=policy))
    with workspace.signing() as signing:
        signing.hold(project)
        manifest = msgspec.structs.replace(project.manifest, plan=signing.put(plan), length=len(plan))
        signing.keep(project.root_envelope, seal(workspace.coordinator(), "manifest", manifest))
