"""The error every part of Prefmill shows to its user: what is wrong, with which value, and what repairs it.

Kept free of heavy imports, so that the command line can catch it before torch is loaded.
"""


class PrefmillError(Exception):
    """A mistake in input, settings or files; `fix` is the command or setting that repairs it."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message, fix)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message
