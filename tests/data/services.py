"""Local stand-ins for the two services, which answer in the recorded formats."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd

Answer = tuple[int, bytes]

# What api.bcb.gov.br says (wilsonfreitas/python-bcb issue 19, shortened; and HTTP 404).
TOO_LONG = json.dumps(
    {
        "error": "O sistema aceita uma janela de consulta de, no máximo, 10 anos em séries de "
        "periodicidade diária",
        "message": "Para acessar uma série de periodicidade diária, é necessário informar a "
        "dataInicial",
    }
).encode()
NOT_FOUND = json.dumps(
    {
        "erro": {
            "statusCode": 404,
            "detail": "br.gov.bcb.pec.sgs.comum.excecoes.SGSNegocioException: Value(s) not found",
        }
    }
).encode()
DOWN = b"<!DOCTYPE HTML>\n<html><head><title>502 Bad Gateway</title></head></html>"


@contextmanager
def serving(respond: Callable[[str], Answer]) -> Iterator[str]:
    """Answer requests by `respond(path)` on a free port; yields ``http://127.0.0.1:port``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = respond(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sgs_json(values: pd.Series) -> bytes:
    """Rows as the service writes them."""
    rows = [{"data": f"{day:%d/%m/%Y}", "valor": f"{value:.10g}"} for day, value in values.items()]
    return json.dumps(rows).encode()


def sgs_answer(series: Mapping[int, pd.Series], path: str) -> Answer:
    """What the service answers to a request, its limit of ten years included."""
    address = urlsplit(path)
    code = int(re.fullmatch(r"/dados/serie/bcdata\.sgs\.(\d+)/dados", address.path)[1])
    asked = parse_qs(address.query)
    assert asked["formato"] == ["json"]
    first, last = (
        pd.to_datetime(asked[key][0], format="%d/%m/%Y") for key in ("dataInicial", "dataFinal")
    )
    if last > first + pd.DateOffset(years=10):
        return 406, TOO_LONG
    found = series[code].loc[first:last]
    return (200, sgs_json(found)) if len(found) else (404, NOT_FOUND)


def brazilian_series(end: str = "2020-12-31") -> dict[int, pd.Series]:
    """Seeded series under the service's codes, in its units; 4 and 7 end on 2019-09-30."""
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2007-12-31", end)

    def walk(start: float, volatility: float) -> pd.Series:
        return pd.Series(start * np.exp(rng.normal(0.0, volatility, len(days)).cumsum()), days)

    dollar = walk(1.8, 0.01)
    euro = dollar * walk(1.3, 0.001).clip(1.0, 1.5)
    holidays = days[rng.random(len(days)) < 0.03]  # of the exchange, not of the banks
    ended = slice(None, "2019-09-30")
    return {
        7: walk(60_000.0, 0.015).drop(holidays).loc[ended].round(),
        4: (dollar * walk(25.0, 0.008)).drop(holidays).loc[ended].round(2),
        10813: dollar.round(4),
        1: (dollar * 1.0004).round(4),
        21620: euro.round(4),
        21619: (euro * 1.0006).round(4),
        12: pd.Series(np.where(days.year < 2013, 0.045513, 0.02462), days),
    }


def zipped(text: str | bytes, name: str = "file.CSV") -> bytes:
    """A zip file with one member, as the library sends it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return buffer.getvalue()
