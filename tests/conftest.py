"""Settings every area shares: property tests draw the same examples each time, and few enough for a busy machine."""

import builtins
import importlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

NOBODY = 65_534

settings.register_profile(
    "p2pcap",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("p2pcap")


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that the user may not enter. Root may enter any, so root is another user meanwhile."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        yield folder
        os.seteuid(0)
    else:
        yield folder
    folder.chmod(0o700)


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """`with full_disk():` no file can grow, as on a full disk."""

    @contextmanager
    def no_growth() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return no_growth


def _imports_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are read by the user whose they are: commands import some when they run, and Python may lie in root's
    own folder."""

    def as_root(load: Callable[..., Any]) -> Callable[..., Any]:
        def loads(*arguments: Any, **named: Any) -> Any:
            before = os.geteuid()
            os.seteuid(0)
            try:
                return load(*arguments, **named)
            finally:
                os.seteuid(before)

        return loads

    monkeypatch.setattr(builtins, "__import__", as_root(builtins.__import__))
    monkeypatch.setattr(importlib, "import_module", as_root(importlib.import_module))


@pytest.fixture
def open_to_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a user whom file modes bind: root is that user meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        if os.geteuid() == 0:
            _imports_as_root(monkeypatch)
            os.seteuid(NOBODY)
            yield folder
            os.seteuid(0)
        else:
            yield folder
