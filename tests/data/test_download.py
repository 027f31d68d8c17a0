"""Fetching: what is tried again, what is not, and what the messages hold."""

from __future__ import annotations

import socket
import threading

import pytest

from sddp.data.sources.download import DownloadError, fetch, read_url
from sddp.errors import DataError
from tests.data.services import DOWN, NOT_FOUND, serving


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_body_of_a_good_answer():
    with serving(lambda path: (200, b"[1]")) as base:
        assert fetch(base + "/x") == b"[1]"


def test_a_busy_service_is_asked_again_after_growing_waits(caplog):
    caplog.set_level("INFO", logger="sddp")
    answers = iter([(503, DOWN), (429, b""), (200, b"ok")])
    waits: list[float] = []
    with serving(lambda path: next(answers)) as base:
        assert fetch(base, sleep=waits.append) == b"ok"
    assert waits == [2.0, 4.0]
    assert "HTTP 503" in caplog.text


def test_gives_up_after_four_attempts():
    asked: list[str] = []

    def respond(path):
        asked.append(path)
        return 502, DOWN

    with (
        serving(respond) as base,
        pytest.raises(DownloadError, match=r"HTTP 502 .*502 Bad Gateway") as caught,
    ):
        fetch(base + "/x", sleep=lambda seconds: None)
    assert asked == ["/x"] * 4
    assert caught.value.passing


def test_what_will_not_pass_is_not_asked_again():
    asked: list[str] = []

    def respond(path):
        asked.append(path)
        return 404, NOT_FOUND

    with serving(respond) as base, pytest.raises(DataError, match="Value") as caught:
        fetch(base, sleep=lambda seconds: pytest.fail("waited"))
    assert len(asked) == 1
    assert isinstance(caught.value, DownloadError)
    assert (caught.value.status, caught.value.body) == (404, NOT_FOUND)


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waits: list[float] = []
    with pytest.raises(DownloadError, match=r"cannot be reached: .*refused") as caught:
        fetch(f"http://127.0.0.1:{port}", sleep=waits.append)
    assert waits == [2.0, 4.0, 8.0]
    assert caught.value.status is None


def test_an_answer_cut_short_is_no_answer():
    """Ten bytes are announced and four sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1,2")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DownloadError, match="IncompleteRead") as caught:
            read_url(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert caught.value.passing
