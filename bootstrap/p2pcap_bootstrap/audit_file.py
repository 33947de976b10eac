"""audit.yaml: what `p2pcap project calibrate` measured, until the next signing takes it into the plan.

Always holds: a calibration is taken only for the task that it was measured with.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.audit import Audit
from p2pcap.project.records import Stage
from p2pcap.whole_file import replace_whole
from p2pcap.yaml_file import compose, construct, read_text
from p2pcap_bootstrap.folder import refusals

FILE = "audit.yaml"
HEAD = "# Written by `p2pcap project calibrate`, signed by the next `p2pcap project sign`.\n"


class Calibrated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The calibration of a stage, and its task's id. Bytes are in hex."""

    task: str
    audit: dict[str, Any]


def read(directory: Path) -> dict[str, Calibrated]:
    """The calibrations by stage; none when there is no file. Raises ConfigError."""
    path = directory / FILE
    if not path.exists():
        return {}
    plain = construct(compose(read_text(path), path), path)
    try:
        return msgspec.convert({} if plain is None else plain, dict[str, Calibrated], strict=True)
    except msgspec.ValidationError as error:
        raise _damaged(path, error) from error


def write(directory: Path, stage: str, tid: bytes, audit: Audit) -> None:
    """Put the calibration of a stage into the file; those of others stay. Raises ConfigError."""
    held = read(directory) | {stage: Calibrated(tid.hex(), _plain(audit))}
    text = HEAD + yaml.safe_dump(msgspec.to_builtins(held), sort_keys=False)
    with refusals(directory):
        replace_whole(directory / FILE, text.encode())


def audited(stages: Sequence[Stage], directory: Path) -> tuple[Stage, ...]:
    """The stages with their calibrations. Raises ConfigError."""
    held = read(directory)
    return tuple(
        msgspec.structs.replace(stage, audit=_audit(held[stage.name], directory / FILE))
        if stage.name in held and held[stage.name].task == stage.task.tid.hex()
        else stage
        for stage in stages
    )


def audit_notes(stages: Sequence[Stage], directory: Path) -> Iterator[str]:
    """What follows for stages that nobody can audit, one line each."""
    held = read(directory)
    for stage in stages:
        if stage.audit is UNSET and stage.name in held:
            yield f"stage {stage.name} was calibrated as another task, so nobody audits it: p2pcap project calibrate"


def _plain(audit: Audit) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(audit, builtin_types=(bytes,))
    if audit.classes is not UNSET:
        plain["classes"] = [one.hex() for one in audit.classes]
    return plain


def _audit(held: Calibrated, path: Path) -> Audit:
    plain = dict(held.audit)
    try:
        if "classes" in plain:
            plain["classes"] = [bytes.fromhex(one) for one in plain["classes"]]
        return msgspec.convert(plain, Audit, strict=True, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path} is damaged: {error}. Remove it, and calibrate again.")
