from collections.abc import Callable
from pathlib import Path

import pytest

from p2pcap.engine.model import check_model
from p2pcap.errors import ModelError
from tests.engine.test_weights import safetensors

CONFIG = '{"architectures": ["Idefics3ForConditionalGeneration"]}'


def test_a_model_passes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    (tmp_path / "model.safetensors").write_bytes(safetensors({"a": ("F32", [1], 4)}))
    check_model(tmp_path)


def nothing(path: Path) -> None:
    path.rmdir()


def a_file(path: Path) -> None:
    path.rmdir()
    path.write_bytes(b"")


def no_config(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def no_json(path: Path) -> None:
    (path / "config.json").write_bytes(b"\xff{")


def too_deep(path: Path) -> None:
    (path / "config.json").write_text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}")


def a_list(path: Path) -> None:
    (path / "config.json").write_text("[1]")


def no_architecture(path: Path) -> None:
    (path / "config.json").write_text('{"model_type": "bert"}')


def no_weights(path: Path) -> None:
    (path / "config.json").write_text(CONFIG)


def cut_short(path: Path) -> None:
    (path / "config.json").write_text(CONFIG)
    (path / "model.safetensors").write_bytes(safetensors({"a": ("F32", [1], 4)})[:-1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (nothing, "no model directory"),
        (a_file, "no model directory"),
        (no_config, "no config.json"),
        (no_json, "no JSON"),
        (too_deep, "no JSON"),
        (a_list, "no architecture"),
        (no_architecture, "no architecture"),
        (no_weights, "no weights"),
        (cut_short, "damaged"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    damage(directory)
    with pytest.raises(ModelError, match=says) as error:
        check_model(directory)
    assert "\n" not in str(error.value)
    assert str(directory) in str(error.value)
