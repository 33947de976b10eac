"""project.yaml: one commented file that says what is to be captioned, and how.

Always holds: a `ProjectFile` that was read is complete and within the protocol's limits; an unknown or misspelt key is
an error that names the nearest known one.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, get_args, get_type_hints

import msgspec
import yaml

from p2pcap.errors import ConfigError
from p2pcap.project.records import DEFAULT_CHUNK, MAX_CHUNK, MIN_CHUNK, Policy
from p2pcap.project.task import Milli, Prompt
from p2pcap.sources.spec import Images

FILE = "project.yaml"
Ratio = Annotated[float, msgspec.Meta(ge=0, le=100)]


class SamplingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `sampling` section; ratios are plain numbers here and thousandths in the signed record."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=8_192)] = 256
    temperature: Ratio = 0.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    stop: tuple[str, ...] = ()


class ProjectFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every key of project.yaml with its default; docs/maintainer.md explains each."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    images: Annotated[str, msgspec.Meta(min_length=1)] | Images
    model: Annotated[str, msgspec.Meta(min_length=1)]
    prompts: Annotated[tuple[Prompt, ...], msgspec.Meta(min_length=1, max_length=16)]
    description: Annotated[str, msgspec.Meta(max_length=8_192)] = ""
    license: Annotated[str, msgspec.Meta(max_length=128)] = ""
    revision: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")] = ""
    dtype: Annotated[str, msgspec.Meta(pattern=r"^(auto|float32|float16|bfloat16)\Z")] = "auto"
    quantization: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{0,32}\Z")] = ""
    system: Annotated[str, msgspec.Meta(max_length=8_192)] = ""
    sampling: SamplingFile = SamplingFile()
    image_edge: Annotated[int, msgspec.Meta(ge=0, le=8_192)] = 0
    max_model_len: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 0
    chunk: Annotated[int, msgspec.Meta(ge=MIN_CHUNK, le=MAX_CHUNK)] = DEFAULT_CHUNK
    policy: Policy = Policy()
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=3_650)] = 90

    @property
    def source(self) -> Images:
        """Where the images are; a plain text names the source and leaves the rest as it is."""
        return Images(source=self.images) if isinstance(self.images, str) else self.images


def milli(number: float) -> Milli:
    """A ratio in thousandths."""
    return round(number * 1_000)


def read(directory: Path) -> ProjectFile:
    """The project file in `directory`. Raises ConfigError."""
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {path}. Run: p2pcap project init {directory}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    return parse(text, path)


def parse(text: str, path: Path) -> ProjectFile:
    """The project file with this text; `path` is where people find it. Raises ConfigError."""
    try:
        return msgspec.convert(yaml.safe_load(text), ProjectFile, strict=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}{_nearest(str(error))}.") from error


def _nearest(message: str) -> str:
    if choice := re.search(r"Invalid enum value '(.*)' - at `\$\.images\.(\w+)`", message):
        return _choices(choice[1], choice[2])
    unknown = re.search(r"unknown field `(\w+)`", message)
    if unknown is None:
        return ""
    structs = (ProjectFile, SamplingFile, Policy, Prompt, Images)
    keys = [field for struct in structs for field in struct.__struct_fields__]
    near = difflib.get_close_matches(unknown.group(1), keys, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _choices(value: str, key: str) -> str:
    allowed = get_args(get_type_hints(Images)[key])
    near = difflib.get_close_matches(value, allowed, n=1)
    return f"; it may be {', '.join(allowed)}" + (f"; did you mean {near[0]}?" if near else "")


TEMPLATE = """\
# A p2pcap project. After a change run: p2pcap project sign {directory}
# Every key is explained in docs/maintainer.md.

name: {name}
description: ""
license: ""                 # of the captions, for the people who will use them

# A folder of images, a file or pattern (*.parquet, *.tar, urls.csv), hf://datasets/OWNER/NAME, or an https address.
# What is on this machine stays here, and volunteers get the images from the swarm, by content hash. Everything else
# they read where it is. With more to say, it is a section:
#   images:
#     source: shards/*.parquet
#     fields: [title]       # columns that go with each image, for prompts and exports
#     key_column: id        # docs/maintainer.md has all keys
images: {images}

# The model: a directory in the Hugging Face layout, or a name on the Hub.
model: {model}
revision: "{revision}"                # 40-hex commit of a model on the Hub; empty: the newest at signing
dtype: {dtype}                 # auto, float32, float16, bfloat16

# Each prompt is answered for each image; `name` is the column in the export.
prompts:
{prompts}

sampling:
  max_tokens: {max_tokens}
  temperature: 0            # 0: always the likeliest token, so captions can be checked

image_edge: {image_edge}               # longest edge in pixels before the model's own resizing; 0: as it is
chunk: {chunk}                 # images in a chunk; about ten minutes of one GPU is right
policy:
  wait_for_engines: {wait_for_engines}       # captioning starts once so many engines are ready
  attempts: 3               # tries an image gets before it becomes an error row
  error_authors: 2          # volunteers who must fail at an image before nobody tries it any more
expires_days: 90            # how long the signature holds
"""
