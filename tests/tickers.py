"""Labels that markets and files really have, and odd ones: the corpus of every public call.

`TEXTS` are 206 labels that are text, as files hold them. `LABELS` are as many for Python: the
same texts beside numbers, dates, tuples, None. Neither holds two labels of the same text.
"""

from __future__ import annotations

import datetime
from collections.abc import Hashable
from decimal import Decimal
from fractions import Fraction

import pandas as pd

REAL = (
    # New York, London, and what data vendors make of classes of shares
    *("AAPL", "MSFT", "BRK.B", "BRK-B", "BRK/B", "BF.B", "GOOG", "GOOGL", "T", "F", "X", "ON"),
    *("ALL", "A", "IT", "TRUE", "NA", "NAN", "BP.L", "VOD.L", "HSBA.L", "BAC-PL", "BAC^L", "C-PN"),
    *("WFC PRL", "RDS.A", "LEN.B", "MOG.A", "HEI.A", "JW.A", "BT.A.L", "ULVR.L"),
    # Brazil, Mexico, Argentina
    *("PETR4.SA", "PETR3.SA", "VALE3.SA", "ITUB4.SA", "B3SA3.SA", "^BVSP", "WALMEX.MX", "GGAL.BA"),
    # Asia and Australia: numbers with a suffix, with and without leading zeros
    *("7203.T", "6758.T", "0700.HK", "9988.HK", "600519.SS", "000001.SZ", "005930.KS", "2330.TW"),
    *("7203 JP", "0001", "00700", "RELIANCE.NS", "M&M.NS", "BAJAJ-AUTO.NS", "BHP.AX", "D05.SI"),
    # Europe
    *("BMW.DE", "SAP.DE", "MC.PA", "NESN.SW", "ASML.AS", "NOVO-B.CO", "VOLV-B.ST", "ENEL.MI"),
    *("SAN.MC", "GAZP.ME", "AKRBP.OL", "PKO.WA", "OTP.BD", "NOKIA.HE", "MAERSK-A.CO", "ERIC-B.ST"),
    # Indexes, currencies, futures, coins, options
    *("^GSPC", "^VIX", "^TNX", "^N225", "EURUSD=X", "JPY=X", "ES=F", "GC=F", "CL1 Comdty"),
    *("BTC-USD", "ETH/USDT", "AAPL  240119C00150000", "SPX 4500 C", "USGG10YR Index", "VIX (30d)"),
    # Vendors' keys and identifiers
    *("AAPL US Equity", "EUR Curncy", "AAPL.O", ".SPX", "US0378331005", "037833100", "B0YBKJ7"),
    *("BBG000B9XRY4", "isin:US0378331005", "NASDAQ:AAPL", "urn:x-y:1", "EQ_TRBC-5010"),
    # Names
    *("Gold (oz)", "L'Oreal", "L'Oréal", "Nestlé S.A.", "Ørsted", "Müller & Söhne", "Großhandel"),
    *("S&P 500", "AT&T", "3M", "1-3 Year Treasury", "MSCI World, net", "H&M; B", "Ben & Jerry's"),
    *(
        "日経平均",
        "三菱商事",
        "삼성전자",
        "Газпром",
        "תעשיות",
        "ปตท.",
        "Ελλάδα",
        "Şişecam",
        "Ångström",
    ),
    *("Other", "other (3)", "asset1", "Total return (USD, hedged)", "10% Notes 2030", "Fund #7"),
)
ODD = (
    # What a parser takes for a number, a truth or nothing
    *("nan", "NaN", "None", "null", "true", "False", "inf", "-inf", "1e5", "0x10", "1_000", "-1"),
    *("+1", "1,5", "1.5%", "2020-01-01", "7203", "007"),
    # What our own tables and Pyomo's names look like
    *("holdings[1]", "purchases[1]", "sales", "holdings[cash]", "regime", "wealth", "date", "CASH"),
    *("Cash", "stage", "a[b]", "x[1].y", "a[b", "node", "index"),
    # Markup, mathematics, formats, formulas, paths
    *("<b>bold</b>", "<script>alert(1)</script>", "&amp;", "$AAPL", "$a_b^{c}$", "_hidden", "__x"),
    *("a_b", r"\alpha", "%", "%s", "{0}", "{name}", "{{}}", "=SUM(A1)", "@here", "a/b", "a\\b"),
    *("..", "C:\\x", "a:b", "a|b", "*", "?", "~x", "`x`", "#1", "a=b"),
    # Quotes, spaces, breaks, and letters that differ by case or by how they are written
    *('"quoted"', "'single'", "mixed \"'", "a,b", "a;b", "a\tb", "two\nlines", " lead", "trail "),
    *(
        " ",
        "aapl",
        "Aapl",
        "\u00e9",
        "e\u0301",
        "\N{ROCKET}",
        "\N{WOMAN}\u200d\N{ROCKET}",
        "A" * 64,
    ),
)
TEXTS: tuple[str, ...] = REAL + ODD

# Not text. No two of them, and none of the texts kept beside them, have the same text.
NO_TEXTS: tuple[Hashable, ...] = (
    *(7203, 6758, 0, -5, 10**20, 1.0, 2.5, -0.75, 1e-7, float("inf"), None),
    *(("Close", "AAPL"), ("Close", "MSFT"), ("a",), (1, "x"), ("A", ("B", 2)), (None, "y")),
    *(pd.Timestamp("2030-06-30"), pd.Timestamp("2030-06-30", tz="UTC"), datetime.date(2031, 1, 1)),
    *(pd.Period("2030-01", freq="M"), pd.Timedelta(days=1), pd.Interval(0, 2), b"AAPL"),
    *(Decimal("1.10"), Fraction(1, 3), 1j, frozenset({"f"})),
)
_TAKEN = {str(label) for label in NO_TEXTS}
LABELS: tuple[Hashable, ...] = (
    *NO_TEXTS,
    *[text for text in ODD + REAL if text not in _TAKEN][: len(TEXTS) - len(NO_TEXTS)],
)
