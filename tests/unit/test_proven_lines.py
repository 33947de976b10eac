"""Lines that prove themselves: whatever byte of what is signed was changed, it is found."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.errors import UntrustedError
from p2pcap.export.proven_lines import verify_file
from tests.unit.test_export import ended, export

__all__ = ["ended", "export"]


UNSIGNED = ("key", "url", "file", "place", "fields", "author_name", "model")
"""What no author signs in a line (docs/export.md)."""


def signed_part(line: bytes) -> Any:
    row = json.loads(line)
    answers = [] if row["answers"] is None else list(row["answers"].values())  # the prompts' names are not signed
    return {name: value for name, value in row.items() if name not in UNSIGNED} | {"answers": answers}


@settings(max_examples=300)
@given(st.data())
def test_any_changed_byte_of_what_is_signed_is_found(
    export: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = export.read_bytes().splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    place, bit = data.draw(st.integers(0, len(line) - 1)), data.draw(st.integers(0, 7))
    lines[number] = line[:place] + bytes((line[place] ^ 1 << bit,)) + line[place + 1 :]
    changed = tmp_path_factory.mktemp("changed") / "changed.jsonl"
    changed.write_bytes(b"".join(lines))
    try:
        verify_file(changed)
    except UntrustedError:
        return
    assert signed_part(lines[number]) == signed_part(line)
