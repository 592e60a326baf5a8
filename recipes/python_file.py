"""A recipe of one's own: a Python file with a function `recipe()` that returns a Recipe.

The file is code and runs with the rights of whoever named it. So it is run only where a person names it: a run's
folder may come from somebody else, and nothing in it makes us import a file.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ..base.errors import PrefmillError
from .recipe import BaseRecipe

_EXAMPLE = "def recipe(): return tiny()   # from prefmill.recipes.tiny import tiny"


def load_python_recipe(path: Path) -> BaseRecipe:
    """Run a file and return what its `recipe()` returns.

    Raises PrefmillError, with the file and line, when the file or the function raises, when there is no such function
    and when it returns something else.
    """
    path = path.absolute()
    try:
        module = _module(path)
        function = getattr(module, "recipe", None)
        if not callable(function):
            raise PrefmillError(f"{path} has no function recipe()", f"write one, for example: {_EXAMPLE}")
        found = function()
    except PrefmillError:
        raise
    except (Exception, SystemExit) as error:
        raise PrefmillError(f"{_place(error, path)}: {_said(error)}", "correct the recipe's file") from error
    if not isinstance(found, BaseRecipe):
        raise PrefmillError(
            f"recipe() in {path} returned {_kind(found)}, not a Recipe",
            "return one: prefmill.recipes.recipe.Recipe(...)",
        )
    return found


def source_of(recipe: BaseRecipe) -> str | None:
    """Return the file that defines a recipe's class, or None where that is a class of the package."""
    name = type(recipe).__module__
    if name.partition(".")[0] == "prefmill":
        return None
    return getattr(sys.modules.get(name), "__file__", None) or name


def _module(path: Path) -> ModuleType:
    name = f"recipe_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PrefmillError(f"{path} is not a Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes look their annotations up by their module's name
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException, path: Path) -> str:
    """Return the last line of the file that an error passed through, as `file:line`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _said(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}" if text else type(error).__name__


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
