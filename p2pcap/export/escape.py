"""JSON that may be shown on a terminal.

JSON itself escapes the control characters below U+0020 only. Strangers' text may also hold DEL, the C1 controls, some
of which terminals obey, the characters that turn the direction of text, which make a line read other than it is, and
the two line separators, at which some readers of lines would cut.
"""

import re

DEL = b"\x7f"

UNSAFE = tuple(
    (prefix, re.compile(pattern))
    for prefix, pattern in (
        (DEL, DEL),
        (b"\xc2", rb"\xc2[\x80-\x9f]"),
        (b"\xe2\x80", rb"\xe2\x80[\xa8-\xae]"),
        (b"\xe2\x81", rb"\xe2\x81[\xa6-\xa9]"),
    )
)
"""In UTF-8: U+007F, U+0080 to U+009F, U+2028 to U+202E, U+2066 to U+2069, and what each begins with: most text has none
of that, and to look for bytes is many times as fast as a pattern. In JSON they can only stand inside a text."""


def safe_json(data: bytes) -> bytes:
    """The same JSON value with those characters written as escapes."""
    if data.isascii() and DEL not in data:
        return data
    for prefix, pattern in UNSAFE:
        if prefix in data:
            data = pattern.sub(_escaped, data)
    return data


def _escaped(found: re.Match[bytes]) -> bytes:
    return f"\\u{ord(found[0].decode()):04x}".encode()
