"""One question to a server that costs nothing, before hours of work: is it there, and does it take the key?"""

from __future__ import annotations

import httpx2

from ....base.errors import PrefmillError
from ..settings import ModelChoice
from .access import access_of
from .responder import DIALECTS
from .verdict import message_of, stop_for

_SECONDS = 10.0


def probe(choice: ModelChoice) -> None:
    """Ask a model's server for its list of models.

    Raises PrefmillError where the key is missing or refused, and where no server answers. One that keeps no list is
    taken as it is.
    """
    access = access_of(choice)
    headers = DIALECTS[choice.backend.partition("_")[0]].headers(access.key)
    try:
        response = httpx2.get(f"{access.url}/models", headers=headers, timeout=_SECONDS)
    except httpx2.HTTPError as error:
        raise PrefmillError(
            f"no server answers at {access.url}: {access.without_key(str(error)) or type(error).__name__}.",
            "start it, or correct `url`",
        ) from error
    if response.status_code in (401, 402, 403):
        stop = stop_for(response.status_code, access.without_key(message_of(response.content)), access)
        assert stop is not None
        raise stop
