"""Read-only page of a running portfolio: numbers each row, figures while somebody looks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sddp.backtest.trading.events import Event
from sddp.errors import ModelError
from sddp.files import written_whole
from sddp.live.alerts import Alerts
from sddp.live.analytics import Analytics, PortfolioAnalytics
from sddp.live.dashboard_figures import (
    contributions_svg,
    latency_svg,
    wealth_svg,
    weights_svg,
)
from sddp.live.observers import ProcessedRow

# Points of a line; with twice as many every second one is dropped.
MOST_POINTS = 1_000
# Seconds between two messages to a page, and at least between two drawings of the figures; on a
# slow machine so many times what a drawing takes, which keeps it below 2.5 % of a core.
MESSAGE_EVERY, DRAW_EVERY, DRAW_TIMES = 1.0, 10.0, 40.0
LOOPBACK = ("127.0.0.1", "localhost")
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

LABELS = {
    "wealth": "Wealth",
    "drawdown": "Drawdown",
    "volatility": "Volatility a year",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "beta": "Beta",
    "tracking_error": "Tracking error a year",
    "cost": "Trading costs so far",
    "slippage": "Slippage, basis points",
    "settlement": "Rows to settle",
    "iterations": "Solver iterations, p50 / p95 / max",
    "run_time": "Milliseconds a row, p50 / p95 / max",
    "stale": "Assets without a quote",
}
SHARES = ("drawdown", "volatility", "tracking_error")

HEADINGS = {
    "wealth-figure": "Wealth and drawdown",
    "weights-figure": "Weights against targets",
    "risk-figure": "Contributions to volatility a year",
    "latency-figure": "Run time",
}


@dataclass(frozen=True)
class _Shown:
    """What a page is told: the last figures, the lines behind them, and what stands."""

    figures: PortfolioAnalytics | None
    times: list[pd.Timestamp]
    wealth: list[float]
    rows: list[int]
    seconds: list[float]
    alerts: list[str]


class Dashboard:
    """Observer that shows what `Analytics` and `Alerts` say.

    Parameters
    ----------
    analytics, alerts
        Stand before this one among the observers.
    title : str
    """

    def __init__(self, analytics: Analytics, alerts: Alerts, *, title: str = "Portfolio") -> None:
        self.title = title
        self._analytics, self._alerts = analytics, alerts
        self._lock = threading.Lock()
        self._points: list[tuple[pd.Timestamp, float]] = []
        self._step, self._row = 1, 0
        self._seconds: deque[tuple[int, float]] = deque(maxlen=MOST_POINTS)
        self._figures: PortfolioAnalytics | None = None
        self._standing: list[str] = []
        self._drawn: dict[str, bytes] = {}
        self._drawn_row, self._drawn_at, self._draw_every = -1, -math.inf, DRAW_EVERY

    def observe(self, done: ProcessedRow) -> Sequence[Event]:
        """See `Observer.observe`; there are no events of its own."""
        with self._lock:
            self._row += 1
            self._seconds.append((self._row, done.seconds))
            self._figures = self._analytics.latest
            self._standing = list(self._alerts.standing.values())
            if self._row % self._step == 0:
                self._points.append((done.time, float(done.account.holdings.sum())))
            if len(self._points) > 2 * MOST_POINTS:
                self._points, self._step = self._points[1::2], 2 * self._step
        return ()

    def state(self) -> dict[str, Any]:
        """See `Observer.state`: the page begins anew after a restart."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Observer.restore`."""

    def shown(self) -> _Shown:
        """A copy for other threads."""
        with self._lock:
            times = [moment for moment, _ in self._points]
            wealth = [money for _, money in self._points]
            rows, seconds = [row for row, _ in self._seconds], [s for _, s in self._seconds]
            return _Shown(self._figures, times, wealth, rows, seconds, list(self._standing))

    def message(self) -> dict[str, Any]:
        """Texts of the page, by the identifier of their place."""
        shown = self.shown()
        f = shown.figures
        return {
            "texts": texts(f),
            "lists": {
                "alerts": shown.alerts or ["none"],
                "triggers": [f"{name}: {n}" for name, n in f.triggers.items()] if f else [],
            },
            "halted": bool(f and f.halted),
            "alternatives": alternatives(f),
            "drawn": self._drawn_row,
        }

    def pictures(self, *, fresh: bool = False) -> dict[str, bytes]:
        """SVG by name; drawn anew at most every 10 seconds, unless they must be fresh."""
        now, worked = time.monotonic(), time.thread_time()
        if self._drawn and not fresh and now - self._drawn_at < self._draw_every:
            return self._drawn
        shown = self.shown()
        f = shown.figures
        if f is None:
            return {}
        first = not self._drawn  # which imports matplotlib
        self._drawn = {
            "wealth-figure": wealth_svg(shown.times, shown.wealth),
            "weights-figure": weights_svg(f.weights, f.target),
            "risk-figure": contributions_svg(f.contributions, f.group_contributions),
            "latency-figure": latency_svg(shown.rows, shown.seconds),
        }
        self._drawn_row, self._drawn_at = f.row, now
        taken = 0.0 if first else time.thread_time() - worked
        self._draw_every = max(DRAW_EVERY, DRAW_TIMES * taken)
        return self._drawn

    def page(self, *, static: bool = False) -> str:
        """The page as HTML: for the server, or self-contained and for good."""
        told = self.message()
        found = self.pictures(fresh=True) if static else {}
        shown = [
            {
                "name": name,
                "heading": heading,
                "alternative": told["alternatives"].get(name, heading),
                "address": _data_address(found[name]) if name in found else f"{name}.svg",
            }
            for name, heading in HEADINGS.items()
            if name in found or not static
        ]
        return (
            _environment()
            .get_template("dashboard.html.j2")
            .render(
                title=self.title,
                labels=LABELS,
                pictures=shown,
                static=static,
                css=_resource("dashboard.css") if static else "",
                **told,
            )
        )

    def write(self, path: str | PathLike[str]) -> Path:
        """Write the self-contained page.

        Parameters
        ----------
        path : path
            Replaced in one step if it exists.
        """
        target = Path(path)
        with written_whole(target) as part:
            part.write_text(self.page(static=True), encoding="utf-8")
        return target

    def app(self, *, hosts: Sequence[str] = LOOPBACK, stopped: threading.Event) -> Starlette:
        """The server's application.

        Parameters
        ----------
        hosts : sequence of str
            Names that requests may call the server by.
        stopped : threading.Event
            Ends the streams to the pages.
        """

        def page(_: Request) -> Response:
            return Response(self.page(), media_type="text/html", headers=HEADERS)

        def fixed(name: str, kind: str) -> Callable[[Request], Response]:
            return lambda _: Response(_resource(name), media_type=kind, headers=HEADERS)

        def picture(request: Request) -> Response:
            found = self.pictures().get(request.path_params["name"])
            if found is None:
                return Response("no such figure yet", status_code=404, headers=HEADERS)
            return Response(found, media_type="image/svg+xml", headers=HEADERS)

        async def stream(request: Request) -> AsyncIterator[str]:
            before = None
            while not stopped.is_set() and not await request.is_disconnected():
                await asyncio.to_thread(self.pictures)
                message = json.dumps(self.message(), sort_keys=True)
                if message != before:
                    yield f"event: figures\ndata: {message}\n\n"
                    before = message
                await asyncio.sleep(MESSAGE_EVERY)

        def events(request: Request) -> Response:
            return StreamingResponse(
                stream(request), media_type="text/event-stream", headers=HEADERS
            )

        routes = [
            Route("/", page),
            Route("/events", events),
            # A browser asks for it, and takes an error for one of the page.
            Route("/favicon.ico", lambda _: Response(status_code=204, headers=HEADERS)),
            Route("/page.css", fixed("dashboard.css", "text/css")),
            Route("/page.js", fixed("dashboard.js", "text/javascript")),
            Route("/{name}.svg", picture),
        ]
        trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
        return Starlette(routes=routes, middleware=[trusted])

    @contextlib.contextmanager
    def served(self, port: int, *, host: str = "127.0.0.1") -> Iterator[str]:
        """Serve the page in a thread of its own while the context lasts.

        Parameters
        ----------
        port : int
            0 takes a free one.
        host : str
            Address to listen on; others than the loopback let other machines read the page.

        Yields
        ------
        str
            Address of the page.

        Raises
        ------
        ModelError
            The port is in use, or may not be listened on.
        """
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()
        except (OSError, OverflowError) as error:
            listening.close()
            raise ModelError(
                f"port={port} on {host} cannot be listened on ({error}); give another, or 0 for a "
                "free one"
            ) from error
        stopped = threading.Event()
        hosts = LOOPBACK if host in LOOPBACK else ("*",)
        app = self.app(hosts=hosts, stopped=stopped)
        config = uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name="dashboard", daemon=True
        )
        thread.start()
        try:
            yield f"http://{host}:{listening.getsockname()[1]}/"
        finally:
            stopped.set()
            server.should_exit = True
            thread.join(timeout=10.0)
            listening.close()


def texts(figures: PortfolioAnalytics | None) -> dict[str, str]:
    """Numbers as the page shows them, by the identifier of their place."""
    if figures is None:
        nothing = dict.fromkeys(LABELS, "\N{EN DASH}")
        return nothing | {"row": "0", "time": "no row yet", "halted": "on"}
    found = {name: _text(name, getattr(figures, name)) for name in LABELS}
    halted = f"halted, {figures.halted}" if figures.halted else "on"
    return found | {"row": str(figures.row), "time": str(figures.time), "halted": halted}


def _text(name: str, value: Any) -> str:
    if name == "run_time":
        value = {key: 1e3 * seconds for key, seconds in value.items()}
    if name == "stale":
        return ", ".join(f"{asset} ({rows} rows)" for asset, rows in value.items()) or "none"
    if isinstance(value, Mapping):
        return " / ".join(f"{number:.3g}" for number in value.values()) or "\N{EN DASH}"
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{100.0 * value:.2f} %" if name in SHARES else f"{value:,.2f}"


def alternatives(figures: PortfolioAnalytics | None) -> dict[str, str]:
    """Text alternatives of the figures, for screen readers."""
    if figures is None:
        return {}
    shown = texts(figures)
    held, parts = (
        ", ".join(f"{name} {100.0 * value:.1f} %" for name, value in list(part.items())[:10])
        for part in (figures.weights, figures.contributions)
    )
    return {
        "wealth-figure": f"Wealth {shown['wealth']}, drawdown {shown['drawdown']}",
        "weights-figure": f"Weights: {held}",
        "risk-figure": f"Contributions to volatility: {parts}",
        "latency-figure": f"Milliseconds a row, median, 95 % and largest: {shown['run_time']}",
    }


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("sddp.live"), autoescape=True, undefined=jinja2.StrictUndefined
    )


@cache
def _resource(name: str) -> str:
    return (resources.files("sddp.live") / "templates" / name).read_text(encoding="utf-8")


def _data_address(picture: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(picture).decode()
