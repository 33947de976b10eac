"""Whether a directory can be a model at all, found out without importing what would load it.

An engine takes half a minute to find out the same and says it in a hundred lines; a person who mistyped a path is told
at once.
"""

import json
from pathlib import Path
from typing import Any

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.weights import read_weights
from p2pcap.errors import ModelError
from p2pcap.project.task import Task

WEIGHTS = ("*.safetensors", "*.bin", "*.pt")


def check_model(directory: Path) -> None:
    """Returns when `directory` looks like a model in the Hugging Face layout; raises ModelError when it does not."""
    if not directory.is_dir():
        raise ModelError(f"There is no model directory {directory}. Name a directory that holds a model.")
    if not read_config(directory).get("architectures"):
        raise ModelError(_no_architecture(directory))
    if not any(True for pattern in WEIGHTS for _ in directory.glob(pattern)):
        raise ModelError(f"{directory} holds no weights ({', '.join(WEIGHTS)}). Fetch the model again.")
    read_weights(directory)


def read_config(directory: Path) -> dict[str, Any]:
    """The model's config.json. Raises ModelError when there is none, or it is no JSON object."""
    config = directory / "config.json"
    try:
        settings = json.loads(config.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"{directory} is no model: it has no config.json. Name a model's own directory.") from error
    except OSError as error:
        raise ModelError(f"{config} cannot be read: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{config} is damaged: it is no JSON. Fetch the model again.") from error
    if not isinstance(settings, dict):
        raise ModelError(_no_architecture(directory))
    return settings


def _no_architecture(directory: Path) -> str:
    return f"{directory / 'config.json'} names no architecture, so it is no model's. Name a model's own directory."


def check_trust(task: Task, settings: EngineSettings) -> None:
    """Raises ModelError when the task's model needs Python code of its own and the volunteer has not allowed it."""
    if task.remote_code is True and not settings.trust_remote_code:
        raise ModelError(
            f"The model {task.model.name} needs Python code that comes with it, and that would run here as you. If you "
            f"trust its authors, join with --trust-remote-code {task.model.name}; otherwise with --observe."
        )


def check_same_model(loaded: Task, wanted: Task) -> None:
    """Raises ModelError when `wanted` needs a model, or a form of it, other than what is loaded for `loaded`."""
    for name in ("model", "dtype", "quantization", "max_model_len", "remote_code"):
        if getattr(loaded, name) != getattr(wanted, name):
            raise ModelError(f"The new task has another {name.replace('_', ' ')}. Start the node again to load it.")
