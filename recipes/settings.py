"""Settings from the command line and from YAML into a configuration, with errors a person can act on."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ..base.errors import PrefmillError

M = TypeVar("M", bound=BaseModel)


def override(config: M, settings: Sequence[str]) -> M:
    """Return a configuration with `key.path=value` settings applied; values are YAML, so `[5, 7]` is a list.

    Raises PrefmillError naming the key, the value and the nearest valid key.
    """
    values = config.model_dump(mode="json")
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise PrefmillError(f"--set {setting!r} has no value", "write it as --set generate.steps=20")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise PrefmillError(f"the value in --set {setting!r} is not valid YAML", "quote it") from error
        _place(values, path.split("."), value, setting)
    return validated(type(config), values)


def _place(values: Any, path: list[str], value: Any, setting: str) -> None:
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(values, list):
            if not key.isdigit() or int(key) >= len(values):
                raise PrefmillError(
                    f"--set {setting}: {'.'.join(path[:depth])} has {len(values)} entries", "count from 0"
                )
            key, values = int(key), typing.cast(Any, values)  # noqa: PLW2901 - a list is indexed by number
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
        given = "" if isinstance(problem["input"], dict) else f", not {problem['input']!r}"
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


def to_yaml(config: BaseModel) -> str:
    """Return a configuration as YAML in the order its fields are declared."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def from_yaml(model: type[M], text: str, source: str) -> M:
    """Return a configuration from YAML. Raises PrefmillError naming the source when it is not valid."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PrefmillError(f"{source} is not valid YAML: {error}", "correct it or give a recipe's name") from error
    return validated(model, values or {})
