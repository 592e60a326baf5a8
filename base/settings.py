"""What all settings have in common: frozen, no unknown keys, and no value that only looks like the one meant.

pydantic alone would take `true` for 1, infinity for a learning rate, and an integer that no machine word holds.
"""

from __future__ import annotations

import typing
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from .characters import is_encodable

_WORD = 2**63


class Settings(BaseModel):
    """The base of every configuration. A field's description, or the text below it, is what people are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _means_what_it_says(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bool) and _is_number(annotation):
                raise ValueError("a number is needed")
            if isinstance(one, int) and not -_WORD <= one < _WORD:
                raise ValueError("the number is out of range")
            if isinstance(one, str) and ("\0" in one or not is_encodable(one)):
                raise ValueError("not text: it holds a NUL, or half of a surrogate pair")
        return value


def _is_number(annotation: Any) -> bool:
    """Return whether a field takes numbers, alone or in a tuple, and no truth values."""
    options = typing.get_args(annotation)
    return any(map(_is_number, options)) if options else annotation in (int, float)


def _says_something(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


Text = Annotated[str, AfterValidator(_says_something)]
"""Text that says something."""

Weight = Annotated[float, Field(strict=True)]
"""A number in a mapping, and no truth value."""
