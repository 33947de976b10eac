"""Tasks for tests, made from the keys of a project file as signing makes them."""

from pathlib import Path
from typing import Any

import yaml

from p2pcap.codec import decode, encode
from p2pcap.project.task import Prompt, Task
from p2pcap_bootstrap import config
from p2pcap_bootstrap.stages import make_stages

ASK = {"name": "caption", "text": "What is it?"}
LEAST = {"name": "cats", "images": "images", "model": "owner/model", "revision": "ab" * 20, "prompts": [ASK]}


def task_of(base: Path, **keys: Any) -> Task:
    """The task of a project file with these keys, which volunteers can read."""
    (stage,) = make_stages(config.parse(yaml.safe_dump(LEAST | keys, sort_keys=False), base / config.FILE), base)
    task = stage.task
    assert decode(encode(task), Task, 1 << 20) == task
    return task


def prompt_of(base: Path, **keys: Any) -> Prompt:
    return task_of(base, prompts=[ASK | keys]).prompts[0]
