"""What a maintainer says of a project's images: where they are, and what of the dataset goes with them."""

from typing import Annotated, Literal

import msgspec

from p2pcap.project.task import MAX_FIELD_NAME

Kind = Literal["auto", "folder", "parquet", "urls", "tar", "files", "stream"]
"""folder: image files in a local folder. parquet: images in the cells of Parquet files. urls: Parquet, CSV or JSON
Lines with a column of addresses. tar: webdataset shards. files: image files on the Hub. stream: whatever else the
library `datasets` reads without running code of the dataset's. auto: found out from the files."""

Captioned = Literal["append", "replace", "skip"]
"""What becomes of images that have a caption already: append: captioned too, the old one stays among the metadata;
replace: captioned, the old one is left out; skip: left out of the plan."""


class Images(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The `images` section of project.yaml. docs/maintainer.md explains each key."""

    source: Annotated[str, msgspec.Meta(min_length=1)]
    """A folder or file (relative to project.yaml), hf://datasets/OWNER/NAME[@REVISION][/PATTERN], or an https address;
    a pattern may hold * and **."""
    kind: Kind = "auto"
    config: str = ""
    """Hub: the dataset's configuration, where it has several."""
    split: str = ""
    """Hub: the split; empty takes all files."""
    image_column: str = ""
    url_column: str = ""
    key_column: str = ""
    """Columns; empty: found by their usual names and types."""
    fields: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FIELD_NAME)], ...] = ()
    """Columns, or keys of sidecar files, that go with each image as metadata, for prompts and exports."""
    caption_field: str = ""
    """The one of `fields` that holds a caption already, where it is not blank."""
    captioned: Captioned = "append"
    hashes: bool = False
    """Read every image when signing, and pin its SHA-256. Local images always are."""
    follow_symlinks: bool = False
    hosts: tuple[str, ...] = ()
    """Hosts with private addresses that volunteers are asked to allow."""
    robots: bool = True
