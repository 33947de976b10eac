"""Hypothesis strategies: any value a record may hold, drawn from its own schema, and any plain DAG-CBOR value."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec.inspect as schema
from hypothesis import strategies as st

from p2pcap.project.items import Item, ParquetRows

T = TypeVar("T")

plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=30), inner, max_size=4),
    max_leaves=12,
)
"""Whatever has a place in a record."""


FIELDS: Mapping[tuple[type, str], st.SearchStrategy[Any]] = {
    (ParquetRows, "groups"): st.sets(st.integers(0, 2**53 - 1), min_size=1, max_size=3).map(sorted).map(tuple),
    (Item, "hash"): st.just(b"") | st.binary(min_size=32, max_size=32),
}
"""What a record checks beyond its schema."""


def records(kind: type[T]) -> st.SearchStrategy[T]:
    """Values of the record `kind`, at and between the limits of its fields; long lists and texts are drawn short."""
    return _of(schema.type_info(kind))


def _of(kind: schema.Type) -> st.SearchStrategy[Any]:
    match kind:
        case schema.Metadata(type=inner):
            return _of(inner)
        case schema.IntType(ge=low, gt=above, le=high, lt=below):
            least = low if low is not None else -(2**63) if above is None else above + 1
            return st.integers(least, high if high is not None else 2**63 if below is None else below - 1)
        case schema.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=False)
        case schema.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(high or 12, 12))
        case schema.BytesType(min_length=low, max_length=high):
            return st.binary(min_size=low or 0, max_size=min(high or 64, 64))
        case schema.VarTupleType(item_type=inner, min_length=low, max_length=high):
            return st.lists(_of(inner), min_size=low or 0, max_size=min(high or 3, 3)).map(tuple)
        case schema.LiteralType(values=values):
            return st.sampled_from(values)
        case schema.BoolType():
            return st.booleans()
        case schema.DictType(key_type=keys, value_type=inner):
            return st.dictionaries(_of(keys), _of(inner), max_size=3)
        case schema.StructType(cls=cls, fields=fields):
            drawn = {field.name: _of(field.type) for field in fields if (cls, field.name) not in FIELDS}
            return st.builds(cls, **drawn, **{name: drawing for (of, name), drawing in FIELDS.items() if of is cls})
    raise TypeError(f"no strategy for {kind}")
