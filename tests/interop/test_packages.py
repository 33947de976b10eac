"""What js-libp2p is made of is pinned, and comes from whatever registry the machine is set to."""

import json
import re

from tests.interop.js import FOLDER


def test_every_package_has_one_version_and_a_digest() -> None:
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    locked = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert locked.pop("")["dependencies"] == wanted
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())


def test_no_registry_is_named() -> None:
    """Written with `npm install --omit-lockfile-registry-resolved`."""
    locked = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert not any("resolved" in package for package in locked.values())
