"""Fetching over HTTP: patience with a busy service, and words for what went wrong."""

from __future__ import annotations

import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from sddp.errors import DataError

Fetch = Callable[[str], bytes]

_log = logging.getLogger("sddp")

# Seconds before the second, third and fourth attempt: both services recover in seconds, or not.
WAITS = (2.0, 4.0, 8.0)
# The central bank takes over half a minute for ten years of days when it is busy.
TIMEOUT = 90.0
BUSY = frozenset({408, 429, 500, 502, 503, 504})
# Some servers answer 403 to the library's own name.
AGENT = "Mozilla/5.0 (compatible; sddp-allocation data scripts)"
SHOWN = 200


class DownloadError(DataError):
    """A file could not be fetched.

    Attributes
    ----------
    status : int or None
        HTTP status of the answer; None where there was none.
    body : bytes
        What the server sent along.
    passing : bool
        Whether another attempt may succeed.
    """

    def __init__(
        self, message: str, *, passing: bool, status: int | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.passing, self.status, self.body = passing, status, body


def fetch(url: str, *, sleep: Callable[[float], object] = time.sleep) -> bytes:
    """Body of the answer, after up to four attempts where a failure may pass.

    Raises
    ------
    DownloadError
        The last attempt failed, or one failed for good (such as HTTP 404).
    """
    for wait in WAITS:
        try:
            return read_url(url)
        except DownloadError as error:
            if not error.passing:
                raise
            _log.info("%s; trying again in %g s", error, wait)
            sleep(wait)
    return read_url(url)


def read_url(url: str) -> bytes:
    """Body of the answer, one attempt.

    Raises
    ------
    DownloadError
        No answer, one cut short, or an HTTP status that is none of success.
    """
    request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept": "*/*"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        raise _rejected(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        passing = not isinstance(reason, ssl.SSLCertVerificationError)
        raise DownloadError(f"{url} cannot be reached: {reason}", passing=passing) from error


def _rejected(url: str, error: urllib.error.HTTPError) -> DownloadError:
    body = error.read()
    said = beginning(body)
    message = f"{url} answered HTTP {error.code} {error.reason}" + (f": {said}" if said else "")
    return DownloadError(message, passing=error.code in BUSY, status=error.code, body=body)


def beginning(body: bytes) -> str:
    """Start of an answer on one line, for a message."""
    words = " ".join(body[: 4 * SHOWN].decode("utf-8", "replace").split())
    return words if len(words) <= SHOWN else words[:SHOWN] + "..."
