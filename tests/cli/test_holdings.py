"""Files of holdings: money or shares, CSV or JSON, and what is said of the others."""

from __future__ import annotations

import pytest

from sddp.cli.inputs.holdings import read_holdings
from sddp.errors import DataError

PRICES = {"A": 10.0, "B, Inc": 4.0, "7203": 2.0}


def read(tmp_path, content: str | bytes, unit=None):
    path = tmp_path / "holdings"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_holdings(str(path), unit)


@pytest.mark.parametrize(
    ("content", "unit"),
    [
        ('asset,shares\ncash,5\nA,2\n"B, Inc",1\n', None),
        ("asset;money\nCash;5\nA;20\nB, Inc;4\n", None),
        ("\ufeffasset\tquantity\ncash\t5\nA\t2\nB, Inc\t1\n", None),
        ("name,what I own\ncash,5\nA,2\n'B,1\n".replace("'B", '"B, Inc"'), "shares"),
        ('cash,5\nA,20\n"B, Inc",4\n', "money"),
        ('{"cash": 5, "A": 20, "B, Inc": 4}', "money"),
        ('{"unit": "shares", "holdings": {"cash": 5, "A": 2, "B, Inc": 1}}', None),
        ('asset,shares\r\ncash,5\r\nA,2\r\n\r\n"B, Inc",1\r\n', None),
        ('asset,shares\ncash,5\nA,2\n"B, Inc",1\n'.encode("utf-16"), None),
    ],
)
def test_forms(tmp_path, content, unit):
    held = read(tmp_path, content, unit).in_money(PRICES, "today")
    assert held == {"cash": 5.0, "A": 20.0, "B, Inc": 4.0}


def test_names_are_text(tmp_path):
    assert read(tmp_path, "asset,shares\n7203,3\n").in_money(PRICES, "d")["7203"] == 6.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("asset,shares\n", "a header alone"),
        ("asset\nA\n", "has one cell; write asset and amount"),
        ("asset,shares\nA,\n", "the amount of 'A' is '': must be a number >= 0"),
        ("asset,shares\nA,-1\n", "'-1': must be"),
        ("asset,shares\nA,nan\n", "'nan': must be"),
        ("asset,shares\nA,1\nA,2\n", "'A' stands there twice"),
        ("asset,foo\nA,1\n", "money or shares"),
        ("{}", "nothing is held"),
        ('{"A": true, "unit": 3}', "is True: must be"),
        ('{"A": [1]}', "must be a number"),
        ('{"A": 1, "A": 2}', "'A' stands there twice"),
        ('[{"A": 1}]', "must be a JSON object"),
        ('{"A": 1', "is no JSON"),
        ('{"unit": "lots", "holdings": {}}', "unit 'lots' is unknown"),
        ('{"unit": "money", "holdings": 3}', "holdings must be an object"),
        ('{"unit": "money", "holdings": {"gold": 3}}', "'gold' has no column of prices"),
        ("[" * 100_000, "is no JSON"),
        (b"asset,shares\n\xe9,1\n", "UTF-8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_files_that_are_none(tmp_path, content, words):
    with pytest.raises(DataError, match=r"^--holdings .*" + words):
        read(tmp_path, content).in_money(PRICES, "today")


def test_units_that_contradict_each_other(tmp_path):
    with pytest.raises(DataError, match="is in shares, and --unit says money"):
        read(tmp_path, "asset,shares\nA,1\n", "money")


def test_a_file_that_is_not_there(tmp_path):
    for name in ("none", ".", "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            read_holdings(str(tmp_path / name), None)


def test_an_asset_without_a_price_today(tmp_path):
    held = read(tmp_path, "asset,shares\nA,1\n")
    with pytest.raises(DataError, match="'A' has no price on 2020-01-01"):
        held.in_money({"A": float("nan")}, "2020-01-01")


def test_an_asset_may_be_called_cash_in_capitals(tmp_path):
    """The exact ``cash`` is always money, another spelling where no asset has that name."""
    (tmp_path / "h.csv").write_text("asset,shares\ncash,5\nCASH,2\n")
    held = read_holdings(str(tmp_path / "h.csv"), None, {"CASH"})
    assert (held.cash, held.amounts) == (5.0, {"CASH": 2.0})
    with pytest.raises(DataError, match="'cash' stands there twice"):
        read_holdings(str(tmp_path / "h.csv"), None, {"AAPL"})
    (tmp_path / "h.json").write_text('{"unit": "shares", "holdings": {"Cash": 5, "A": 1}}')
    assert read_holdings(str(tmp_path / "h.json"), None, {"A"}).cash == 5.0
