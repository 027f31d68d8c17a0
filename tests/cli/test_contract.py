"""Every command in a process of its own: standard output is its result, to the byte or as JSON."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sddp import cli
from sddp.cli import options as opt
from tests.cli import small

# Every command with arguments that make it succeed in the folder of `small.folder`.
COMMANDS = {
    "sddp backtest": ("backtest", "prices.csv", *small.MODEL, *small.WALK),
    "sddp train": ("train", "prices.csv", *small.MODEL),
    "sddp decide": ("decide", "prices.csv", *small.MODEL, "--holdings", "holdings.csv"),
    "sddp solve": ("solve", "instance.json"),
    "sddp data check": ("data", "check", "prices.csv"),
    "sddp data fetch brazil": (
        *("data", "fetch", "brazil", "--out", "brazil.csv", "--saved", "saved"),
        *("--start", "2008-01-02", "--end", "2009-12-30"),
    ),
    "sddp data fetch french": ("data", "fetch", "french", "--out", "french", "--saved", "saved"),
}

# Chatter on standard output as of Python, of a library in C, and of another process.
NOISY = """
import os, subprocess, sys
from sddp import cli
parse = cli.parse
def noisy(*arguments):
    options = parse(*arguments)
    run = options.run
    def both(options):
        print("chatter of Python")
        os.write(1, b"chatter of C" + bytes([10]))
        subprocess.run(["echo", "chatter of a child"], check=True)
        return run(options)
    options.run = both
    return options
cli.parse = noisy
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def where(tmp_path_factory) -> Path:
    return small.folder(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def outcome(where):
    """Outcome of a command that is run once, with chatter."""
    found: dict[str, subprocess.CompletedProcess[bytes]] = {}

    def of(name: str):
        if name not in found:
            arguments = (*COMMANDS[name], "--json", f"{name}.json")
            found[name] = small.run(*arguments, where=where, code=NOISY)
        return found[name]

    return of


def test_every_command_is_tested():
    assert {leaf.prog for leaf in opt._leaves(cli.parser())} == set(COMMANDS)


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_standard_output_is_one_json_object_whatever_is_printed(name, outcome, where):
    found = outcome(name)
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith(b"\n")
    assert found.stdout.count(b"\n") == 1
    result = json.loads(found.stdout)
    assert isinstance(result, dict)
    for who in (b"Python", b"C", b"a child"):
        assert b"chatter of " + who in found.stderr
    assert (where / f"{name}.json").read_bytes() == found.stdout


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_command_gives_the_same_bytes(name, outcome, where):
    """But for how long it took; quietly, and nothing on standard error."""
    again = small.run(*COMMANDS[name], "--quiet", where=where)
    assert (again.returncode, again.stderr) == (0, b"")

    def timeless(text: bytes):
        content = json.loads(text)
        for row in content.get("log", []):
            del row["seconds"]
        content.pop("seconds", None)
        return content

    assert timeless(again.stdout) == timeless(outcome(name).stdout)


def test_help_and_version_are_standard_output(where):
    found = small.run("--version", where=where)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"sddp 0.1.0\n", b"")
    found = small.run("solve", "--help", where=where)
    assert found.stdout.startswith(b"usage: sddp solve ")
    assert (found.returncode, found.stderr) == (0, b"")


def test_the_command_line_is_wrong(where):
    found = small.run("solve", "instance.json", "--seed", "x", where=where)
    assert (found.returncode, found.stdout) == (2, b"")
    assert found.stderr == (
        b"sddp solve: argument --seed: 'x': must be an integer >= 0; see sddp solve --help\n"
    )


@pytest.mark.long
def test_on_a_terminal_of_40_columns_a_table_stands_in_the_place_of_json(where):
    """With --json - the object all the same."""
    for extra, is_json in ((), False), (("--json", "-"), True):
        text = on_terminal("solve", "instance.json", *extra, where=where, columns=40)
        if is_json:
            assert json.loads(text)["status"] == "converged"
        else:
            assert "upper bound on expected" in text
            assert max(map(len, text.splitlines())) <= 40


def on_terminal(*arguments: str, where: Path, columns: int) -> str:
    """What a command writes to a terminal that is its standard output."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "sddp", *arguments],
        cwd=where,
        env=small.environment(),
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        chunks = []
        while True:
            try:
                chunk = os.read(ours, 1024)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
    os.close(ours)
    assert process.returncode == 0
    return b"".join(chunks).decode().replace("\r\n", "\n")


@pytest.mark.long
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(where):
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "sddp", "solve", "instance.json"],
            cwd=where,
            env=small.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert found.returncode == 1
    assert b"No space left on device" in found.stderr
    assert b"Traceback" not in found.stderr
    found = small.run("solve", "instance.json", "--json", "/dev/full", where=where)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert found.returncode == 1
    assert b"--json /dev/full: cannot be written" in found.stderr


@pytest.mark.long
def test_a_reader_that_has_gone(where):
    """As with `sddp solve ... | head -0`."""
    ours, theirs = os.pipe()
    os.close(ours)
    found = subprocess.run(
        [sys.executable, "-m", "sddp", "solve", "instance.json", "--quiet"],
        cwd=where,
        env=small.environment(),
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    assert (found.returncode, found.stderr) == (141, b"")


@pytest.mark.long
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed(where, closed):
    command = f"{sys.executable} -m sddp solve instance.json {closed}"
    found = subprocess.run(
        ["bash", "-c", command],
        cwd=where,
        env=small.environment(),
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0
    assert b"Traceback" not in found.stderr
    if ">&-" not in closed.replace("2>&-", ""):
        assert json.loads(found.stdout)["status"] == "converged"


def test_an_internal_error_is_one_line_and_says_how_to_see_more(where):
    broken = NOISY.replace("return run(options)", "raise ZeroDivisionError('for the test')")
    found = small.run("solve", "instance.json", where=where, code=broken)
    assert (found.returncode, found.stdout) == (70, b"")
    last = found.stderr.splitlines()[-1]
    assert last.startswith(b"internal error, please report: ZeroDivisionError: for the test")
    assert b"SDDP_TRACEBACK=1" in last
    assert b"Traceback" not in found.stderr
