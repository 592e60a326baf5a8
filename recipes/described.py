"""A configuration as YAML with what every setting means, as comments above it: to read, to save and to edit."""

from __future__ import annotations

import textwrap
from typing import Any

from pydantic import BaseModel

from .settings import to_yaml

_WIDTH = 110


def described_yaml(config: BaseModel) -> str:
    """Return the YAML of `to_yaml` with the fields' descriptions as comments. It loads to the same configuration."""
    return "\n".join(_lines(config, "", comments=True)) + "\n"


def _lines(config: BaseModel, indent: str, *, comments: bool) -> list[str]:
    lines: list[str] = []
    for name in config.model_dump():
        field, value = type(config).model_fields[name], getattr(config, name)
        if comments and field.description:
            text = " ".join(field.description.split())
            lines += textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_lines(value, f"{indent}  ", comments=comments)]
        elif isinstance(value, tuple) and value and all(isinstance(item, BaseModel) for item in value):
            lines.append(f"{indent}{name}:")
            for number, item in enumerate(value):  # what the settings mean is said once, with the first of them
                lines += _item(_lines(item, f"{indent}  ", comments=comments and number == 0), indent)
        else:
            lines += textwrap.indent(to_yaml(_plain(config, name)), indent).splitlines()
    return lines


def _item(lines: list[str], indent: str) -> list[str]:
    """Return a mapping's lines as an entry of a list: a dash before its first key, comments stay above it."""
    first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
    return [*lines[:first], f"{indent}- {lines[first][len(indent) + 2 :]}", *lines[first + 1 :]]


def _plain(config: BaseModel, name: str) -> dict[str, Any]:
    return config.model_dump(mode="json", include={name})
