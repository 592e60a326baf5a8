"""Silence the model libraries while a checkpoint loads or is written.

What they would warn about, missing and foreign weights above all, is an error here and reported as one.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers.utils.logging as transformers_logging


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars, no deprecations and nothing below an error from the libraries inside; restored after."""
    # not imported for this alone: it takes longer than a language model's own library
    diffusers_logging = sys.modules.get("diffusers.utils.logging")
    libraries = (transformers_logging, *([diffusers_logging] if diffusers_logging else []))
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # one library's, about how another one calls it
            yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
