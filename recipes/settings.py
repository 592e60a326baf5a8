"""Settings from the command line and from YAML into a configuration, with errors a person can act on."""

from __future__ import annotations

import difflib
import reprlib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ..base.errors import PrefmillError

M = TypeVar("M", bound=BaseModel)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def override(config: M, settings: Sequence[str]) -> M:
    """Return a configuration with `key.path=value` settings applied; values are YAML, so `[5, 7]` is a list.

    Raises PrefmillError naming the key, the value and the nearest valid key.
    """
    values = config.model_dump(mode="json")
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise PrefmillError(f"--set {_shown(setting)} has no value", "write it as --set generate.steps=20")
        _place(values, path.split("."), parsed(text, f"the value in --set {_shown(setting)}", "quote it"), setting)
    return validated(type(config), values)


def _place(values: Any, path: list[str], value: Any, setting: str) -> None:
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(values, list):
            numbers = {str(number): number for number in range(len(values))}
            if key not in numbers:
                raise PrefmillError(
                    f"--set {setting}: {'.'.join(path[:depth])} has {len(values)} entries", "count from 0"
                )
            key, values = numbers[key], typing.cast(Any, values)  # noqa: PLW2901 - a list is indexed by number
        elif not isinstance(values, dict):
            raise PrefmillError(f"--set {setting}: {'.'.join(path[:depth])} has no settings of its own", "shorten it")
        if last:
            values[key] = value
        else:
            if isinstance(values, dict) and values.get(str(key)) is None:
                values[key] = {}
            values = values[key]


def validated(model: type[M], values: Any) -> M:
    """Return `values` as a configuration. Raises PrefmillError for the first thing that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        path = [str(part) for part in problem["loc"]]
        name = ".".join(path) or "the configuration"
        if problem["type"] == "extra_forbidden":
            known = _keys_at(model, path[:-1])
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
            parent = ".".join(path[:-1])
            fix = f"did you mean {'.'.join([*path[:-1], near[0]])}? " if near else ""
            where = f" of {parent}" if parent else ""
            raise PrefmillError(
                f"unknown setting {name}", f"{fix}The settings{where} are: {', '.join(known)}"
            ) from None
        message = problem["msg"].removeprefix("Value error, ")
        given = "" if isinstance(problem["input"], dict) else f", not {_shown(problem['input'])}"
        raise PrefmillError(f"{name}: {message}{given}", "see `prefmill recipe show` for every setting") from None


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the keys of the configuration at a path, through optional, tuple and nested fields."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
    return sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, list):
        for option in typing.get_args(annotation):
            if (found := _model_in(option)) is not None:
                return found
        return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _shown(value: Any) -> str:
    """Return a value as an error shows it: short, also where it is huge, deep or refers to itself."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a {type(value).__name__} too large to print"


def to_yaml(config: BaseModel | dict[str, Any]) -> str:
    """Return a configuration as YAML in the order its fields are declared."""
    values = config if isinstance(config, dict) else config.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def parsed(text: str, source: str, fix: str) -> Any:
    """Return what YAML says. Raises PrefmillError naming the source when it is not valid."""
    try:
        return yaml.safe_load(text)
    except Exception as error:  # besides its own errors PyYAML lets through whatever its conversions raise
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise PrefmillError(f"{source} is not valid YAML: {reason}", fix) from error


def read_text(path: Path) -> str:
    """Return a file's text. Raises PrefmillError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrefmillError(f"{path} is not UTF-8 text: {error.reason}", "save it as UTF-8") from error
    except OSError as error:
        raise PrefmillError(f"cannot read {path}: {error.strerror}", "correct the path or the permissions") from error
