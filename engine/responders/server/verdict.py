"""What an HTTP reply means for the request: a completion, another try, a reject of the row, or the end of the run.

| reply | means |
|---|---|
| 401, 402, 403, 404, 405, redirects; 429 and 400 that speak of money | nothing gets better by trying: the run stops |
| 400, 413, 422 and other 4xx | the row is a reject |
| 408, 409, 425, 429, 5xx, a body that is no JSON or not in the format | try again |
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....base.errors import PrefmillError
from .access import Access
from .completion import Completion, Unreadable
from .dialect import Dialect

LONGEST_PAUSE = 120.0
_AGAIN = {408, 409, 425, 429, 529}
_CROWDED = {429, 503, 529}
_MONEY = re.compile(
    r"insufficient_quota|billing_|billing details|credit.balance|credit_balance_exhausted|spend.?limit|usage.limits?\b|"
    r"exceeded your current quota|insufficient.(?:balance|credits|funds)",
    re.IGNORECASE,
)
_SOON = re.compile(r"retry in|try again in", re.IGNORECASE)  # a quota by the minute, in the same words


@dataclass(frozen=True)
class TryAgain:
    """It may go better next time: not before `wait` seconds; `crowded` where the server says that it has too much."""

    reason: str
    detail: str = ""
    wait: float = 0.0
    crowded: bool = False


@dataclass(frozen=True)
class RowRefused:
    """The server will not answer this request, ever; `message` in its own words."""

    reason: str
    message: str


Verdict = Completion | TryAgain | RowRefused


def judge(status: int, headers: Mapping[str, str], content: bytes, dialect: Dialect, access: Access) -> Verdict:
    """Return what a reply means. Raises PrefmillError where the run has to stop."""
    if status == 200:
        try:
            return dialect.read(json.loads(content.decode("utf-8")))
        except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
            return TryAgain("bad_json", f"{type(error).__name__}: {error}"[:200])
        except Unreadable as error:
            return TryAgain("bad_reply", access.without_key(str(error))[:200])
    message = access.without_key(message_of(content))
    if stop := stop_for(status, message, access):
        raise stop
    if status in _AGAIN or status >= 500:
        wait = retry_after(headers)
        return TryAgain(f"status_{status}", message, wait or 0.0, status in _CROWDED)
    return RowRefused(f"refused_{status}", message)


def stop_for(status: int, message: str, access: Access) -> PrefmillError | None:
    """Return the error that ends a run with such a reply, None where it may go on."""
    said = f": {message}" if message else ""
    if status == 401:  # the message quotes the key, in part or in whole
        kind = f"the key in {access.variable}" if access.key else "a request without a key"
        fix = f"export {access.variable or 'NAME'}=... with a valid key, or name another variable with server.api_key"
        return PrefmillError(f"{access.url} refuses {kind} (401).", fix)
    if status == 402 or (status in (400, 403, 429) and _MONEY.search(message) and not _SOON.search(message)):
        fix = "settle that with the vendor, then give the same command again: answers that were paid for are kept"
        return PrefmillError(f"{access.url} answers only for money ({status}){said}", fix)
    if status == 403:
        fix = f"ask for access, or give another key in {access.variable or 'a variable that server.api_key names'}"
        return PrefmillError(f"{access.url} forbids it (403){said}", fix)
    if status in (404, 405) or 300 <= status < 400:
        fix = "correct `url` (it mostly ends in /v1) or `model`"
        return PrefmillError(f"{access.url} knows no such address or model ({status}){said}", fix)
    return None


def message_of(content: bytes) -> str:
    """Return in a line what an error's body says, shortened, with the codes it has."""
    text = content.decode("utf-8", "replace")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text.split())[:300]
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return " ".join(str(error).split())[:300]
    details = error.get("details")
    codes = [error.get(name) for name in ("code", "type", "param")]
    codes.append(details.get("error_code") if isinstance(details, dict) else None)
    shown = ", ".join(str(code) for code in codes if code)
    said = error.get("message") or error.get("detail") or data
    return f"{' '.join(str(said).split())[:300]}{f' [{shown[:100]}]' if shown else ''}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or a date, at most two minutes of them."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_PAUSE)
