"""A headless Chromium, driven over its pipe: what a page shows, asks for and complains about."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)
# Seconds for an answer: a browser starts slowly on a busy machine.
PATIENCE = 60.0


def installed():
    """Path of a browser; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser of its own.

    Attributes
    ----------
    requests : list of str
        Addresses that the page has asked for.
    complaints : list of str
        Errors and warnings of its console, and failed requests.
    """

    def __init__(self, path):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs, self._out = os.pipe()
        self._in, answers = os.pipe()
        # The browser reads file descriptor 3 and writes 4.
        command = f'exec 3<&{theirs} 4>&{answers} && exec "$0" "$@"'
        profile = f"--user-data-dir={Path(self._folder.name) / 'profile'}"
        self._process = subprocess.Popen(
            ["bash", "-c", command, path, *FLAGS, profile, "about:blank"],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs), os.close(answers)
        self._numbers, self._unread = itertools.count(1), b""
        self.requests, self.complaints, self._session = [], [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Answer of a command."""
        number = next(self._numbers)
        told = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            told["sessionId"] = self._session
        os.write(self._out, json.dumps(told).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def value(self, expression):
        """Value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression, wanted, seconds=PATIENCE):
        """Seconds until an expression has a value."""
        started = time.monotonic()
        while (found := self.value(expression)) != wanted:
            assert time.monotonic() - started < seconds, (expression, found, wanted)
            time.sleep(0.02)
        return time.monotonic() - started

    def close(self):
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._out), os.close(self._in)
        self._folder.cleanup()

    def _next(self):
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._unread:
            left = until - time.monotonic()
            ready = left > 0.0 and select.select([self._in], [], [], left)[0]
            assert ready, "no answer"
            got = os.read(self._in, 1 << 16)
            assert got, "the browser has ended"
            self._unread += got
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        kind, told = event.get("method"), event.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif kind == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.complaints.append(str(told["args"]))
        elif kind == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif kind == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"] + str(told["entry"].get("url")))
