"""JSON that may be shown on a terminal.

JSON itself escapes the control characters below U+0020 only. Strangers' text may also hold DEL, the C1 controls, some
of which terminals obey, the characters that turn the direction of text, which make a line read other than it is, those
that are not seen at all (tags, the byte order mark), and the two line separators, at which some readers of lines would
cut. Those that join letters, which some scripts need, stay.
"""

import re

DEL = b"\x7f"

UNSAFE = tuple(
    (prefix, re.compile(pattern))
    for prefix, pattern in (
        (DEL, DEL),
        (b"\xc2", rb"\xc2[\x80-\x9f]"),
        (b"\xd8\x9c", rb"\xd8\x9c"),
        (b"\xe2\x80", rb"\xe2\x80[\x8e\x8f\xa8-\xae]"),
        (b"\xe2\x81", rb"\xe2\x81[\xa6-\xa9]"),
        (b"\xef\xbb\xbf", rb"\xef\xbb\xbf"),
        (b"\xf3\xa0", rb"\xf3\xa0[\x80\x81][\x80-\xbf]"),
    )
)
"""In UTF-8: U+007F, U+0080 to U+009F, U+061C, U+200E and U+200F, U+2028 to U+202E, U+2066 to U+2069, U+FEFF, U+E0000 to
U+E007F, and what each begins with: most text has none of that, and to look for bytes is many times as fast as a
pattern. In JSON they can only stand inside a text."""


def is_plain(data: memoryview) -> bool:
    """Whether a text holds no byte from DEL on, so that `safe_json` would not change it: many bytes at one time."""
    import numpy as np

    return bool(np.frombuffer(data, np.uint8).max(initial=0) < DEL[0])


def safe_json(data: bytes) -> bytes:
    """The same JSON value with those characters written as escapes."""
    if data.isascii() and DEL not in data:
        return data
    for prefix, pattern in UNSAFE:
        if prefix in data:
            data = pattern.sub(_escaped, data)
    return data


def _escaped(found: re.Match[bytes]) -> bytes:
    units = found[0].decode().encode("utf-16-be")
    return b"".join(b"\\u" + units[at : at + 2].hex().encode() for at in range(0, len(units), 2))
