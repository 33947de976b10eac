"""The model that a project file names: a directory, listed by hash, or a repository on the Hub, pinned to a commit."""

import os
import re
from pathlib import Path

from p2pcap.errors import ModelError
from p2pcap.node.models import list_model
from p2pcap.project.records import MAX_MODEL
from p2pcap.project.task import Model

HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")


def find_model(name: str, revision: str, base: Path) -> Model:
    """The model named in a project file: a directory, listed by hash, or a pinned one on the Hub. Raises ModelError."""
    directory = base / os.path.expanduser(name)
    if os.path.isdir(directory):
        files = list_model(directory)
        if sum(file.length for file in files) > MAX_MODEL:
            raise ModelError(f"{directory} has over {MAX_MODEL >> 20} MiB: too much to hand round. Put it on the Hub.")
        return Model(directory.resolve().name, "", files)
    if not HUB_NAME.match(name) or name.startswith("."):
        raise ModelError(f"{name} is neither a model directory nor a name on the Hub (owner/model). Check `model`.")
    return Model(name, revision or _newest_revision(name))


def _newest_revision(name: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(name, timeout=30).sha)
    except Exception as error:  # the Hub's client lets the errors of its HTTP library through
        raise ModelError(
            f"The Hub does not tell the revision of {name} ({type(error).__name__}). If it is a directory, check the "
            "path; if it is on the Hub, check the network or give `revision`, the 40-hex commit."
        ) from error
