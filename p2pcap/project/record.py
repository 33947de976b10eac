"""What every record is made of: the base class, and the kinds of fields that many records share."""

from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=8_192)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Milli = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
"""Thousandths of a number: 700 is 0.7. Records hold no floats."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every record: immutable, and an unknown field is an error."""
