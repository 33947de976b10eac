"""Which images a tar has, how they are named, and which members say something of each: webdataset's rules.

The members of a sample share their name up to the first dot of its last part: "dir/7.jpg", "dir/7.txt", "dir/7.json".
In webdataset they follow each other; here they are also found where they do not, as in a tar of a folder in the order
of the disk. Where a name comes again, its second member belongs to the second sample of that name, and so on.

Always holds: images come in the order of their bytes; each has one key; a sample without an image gives nothing.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from p2pcap.project.items import MAX_KEY
from p2pcap.project.task import MAX_FIELD_NAME
from p2pcap.sources.folder import SUFFIXES
from p2pcap.sources.sidecars import MAX_SIDECAR, TEXTS, Names, as_text, json_fields
from p2pcap.sources.tar_index import unused
from p2pcap.sources.tar_walk import Member

NAME = re.compile(r"(?P<sample>(?:.*/)?[^./][^./]*)\.[^/]*", re.S)
"""A member that is part of a sample: it has a suffix, and its last part does not begin with a dot."""

ABOUT = re.compile(r"(?:^|/)__[^/]*__(?:$|/)")
"""Members about the shard itself, not about a sample (webdataset's `skip_meta`)."""

JSON = ".json"
SAID = (*dict.fromkeys(suffix for suffixes in TEXTS.values() for suffix in suffixes), JSON)
"""Suffixes of members that say something of an image."""

Place = tuple[str, int]
"""A name without its suffix or up to its first dot, and how often it had come before with that suffix."""


class Picture(msgspec.Struct, frozen=True, gc=False):
    """An image in a tar, its key, and the members that say something of it."""

    member: Member
    key: str
    said: tuple[Member, ...] = ()

    @property
    def beside(self) -> dict[str, Member]:
        """The members that say something of it, by suffix."""
        return {_suffix(member.name): member for member in self.said}


def pictures(members: Iterable[Member], with_said: bool = True) -> list[Picture]:
    """The images among `members`, which come by offset; `with_said` with what says something of them."""
    images: list[tuple[Member, Place, Place]] = []
    said: dict[str, dict[Place, Member]] = {suffix: {} for suffix in SAID}
    seen: Counter[str] = Counter()
    samples: Counter[Place] = Counter()
    for member in members:
        name = member.name.removeprefix("./")
        found = NAME.fullmatch(name)
        if found is None or ABOUT.search(name):
            continue
        suffix = _suffix(name)
        if suffix not in SUFFIXES and not (with_said and suffix in said):
            continue
        stem = name[: -len(suffix)]
        before = seen[name]
        seen[name] += 1
        if suffix in said:
            said[suffix][stem, before] = member
        else:
            whole = (stem, before)
            sample = whole if found["sample"] == stem else (found["sample"], before)
            samples[sample] += 1
            images.append((member, whole, sample))
    return [
        Picture(
            member,
            sample[0] if samples[sample] == 1 else member.name.removeprefix("./"),
            _said(said, whole, sample),
        )
        for member, whole, sample in images
    ]


def _said(said: Mapping[str, Mapping[Place, Member]], whole: Place, sample: Place) -> tuple[Member, ...]:
    """Of each suffix what has the image's whole name without suffix, or else the sample's."""
    found = (by_place.get(whole) or by_place.get(sample) for by_place in said.values())
    return tuple(member for member in found if member is not None)


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def needed(picture: Picture, names: Sequence[str]) -> list[str]:
    """Suffixes of the members beside an image that must be read for the fields `names`."""
    beside = picture.beside
    wanted = {suffix for name in names for suffix in TEXTS.get(name, ())}
    without_text = any(not any(suffix in beside for suffix in TEXTS.get(name, ())) for name in names)
    if without_text and picture.member.metadata is None:
        wanted.add(JSON)
    return [suffix for suffix, member in beside.items() if suffix in wanted and member.length <= MAX_SIDECAR]


def said_by(suffix: str, data: bytes, names: Sequence[str], met: Names) -> dict[str, str]:
    """What a member with that suffix says: fields by name, its text under its suffix; `met` is told of all fields that
    it has. What is no JSON object, or no text, says nothing: a maintainer cannot mend the shards of others."""
    if suffix != JSON:
        met.add(name for name in names if suffix in TEXTS.get(name, ()))
        return {suffix: as_text(data.decode("utf-8-sig", "replace"))}
    try:
        return json_fields(data, names, met)
    except ValueError:
        return {}


def fields(picture: Picture, names: Sequence[str], said: Mapping[str, str], met: Names) -> dict[str, str]:
    """The fields `names` of an image, from what was `said_by` the members beside it, and by the index; blank ones are
    left out. For "caption": NAME.caption, then NAME.txt, then the JSON's; a field's own text always comes first."""
    known = dict(said)
    if picture.member.metadata is not None:
        known |= said_by(JSON, bytes(picture.member.metadata)[:MAX_SIDECAR], names, met)
    captions = picture.member.captions
    listed = as_text(captions[0] if len(captions) == 1 else captions or None)
    found = {
        name: next((known[suffix] for suffix in TEXTS.get(name, ()) if known.get(suffix)), "")
        or known.get(name, "")
        or (listed if name in ("caption", "captions") else "")
        for name in names
    }
    return {name: text for name, text in found.items() if text}


def key_of(wanted: str, place: str, used: set[str], numbers: dict[str, int]) -> str:
    """A key that is not `used` yet, and uses it: as `wanted`, or with "#2" behind it; `place` when that is too long."""
    key = unused(wanted if len(wanted) <= MAX_KEY - 8 else place[-(MAX_KEY - 8) :], used, numbers)
    used.add(key)
    return key


def field_names(names: Iterable[str], caption: str) -> tuple[str, ...]:
    """The fields asked for, each once; the one that holds a caption is among them."""
    return tuple(dict.fromkeys(name for name in (*names, caption) if 0 < len(name) <= MAX_FIELD_NAME))
