"""Records to Arrow columns and back: the schema is read off the dataclass, so a field is declared once."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

import pyarrow as pa

R = TypeVar("R")

# large_binary: a batch of images passes 2 GiB, where the 32-bit offsets of plain binary end.
_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.large_binary(),
    dict[str, float]: pa.map_(pa.string(), pa.float64()),
    tuple[str, ...]: pa.list_(pa.string()),
}


@cache
def schema_of(record_type: type) -> pa.Schema:
    """Return the Arrow schema of a record type; `X | None` becomes a nullable column."""
    hints = typing.get_type_hints(record_type)
    columns = []
    for field in fields(record_type):
        hint, nullable = hints[field.name], False
        if isinstance(hint, types.UnionType):
            alternatives = [option for option in typing.get_args(hint) if option is not type(None)]
            hint, nullable = alternatives[0], True
        columns.append(pa.field(field.name, _ARROW_TYPES[hint], nullable=nullable))
    return pa.schema(columns)


def to_table(record_type: type, records: Sequence[Any]) -> pa.Table:
    """Return the records as an Arrow table with the columns of `schema_of(record_type)`."""
    schema = schema_of(record_type)
    columns = []
    for column in schema:
        values = [getattr(record, column.name) for record in records]
        if pa.types.is_map(column.type):
            values = [None if value is None else list(value.items()) for value in values]
        columns.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def from_batch(record_type: type[R], batch: pa.RecordBatch | pa.Table) -> Iterator[R]:
    """Yield the records of an Arrow batch, one at a time, so that large images are copied singly."""
    columns = [_values(batch.column(field.name), field.type) for field in schema_of(record_type)]
    for values in zip(*columns, strict=True):
        yield record_type(*values)


def _values(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> Iterable[Any]:
    if pa.types.is_large_binary(kind):
        return (value.as_py() for value in column)
    values = column.to_pylist()
    made = dict if pa.types.is_map(kind) else tuple if pa.types.is_list(kind) else None  # Arrow gives lists for both
    return values if made is None else (None if value is None else made(value) for value in values)
