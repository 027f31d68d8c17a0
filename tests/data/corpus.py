"""Price files as they come: each with the table that must come out of it, or the sentence.

Every file is written here; none is downloaded. ``A`` and ``B`` hold ``PRICES`` on ``DAYS`` unless a
case says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DAYS = ("2020-01-30", "2020-01-31", "2020-02-03")
PRICES = {"A": (100.5, 101.25, 99.75), "B": (1200.0, 1234.5, 1199.0)}
MONTHS = ("2020-01-31", "2020-02-29", "2020-03-31")


@dataclass(frozen=True)
class Case:
    """One file.

    Parameters
    ----------
    name : str
    content : str or bytes
    words : str, optional
        Regular expression of the sentence with which it is refused.
    dates, columns
        What comes out otherwise.
    says : str, optional
        Regular expression of what the report says about it.
    options : dict
        For the reader; those of ``instead`` make a refused file readable.
    kind : {"prices", "returns", "factors"}
    file : str
    """

    name: str
    content: str | bytes
    words: str | None = None
    dates: tuple[str, ...] = DAYS
    columns: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict(PRICES))
    says: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, Any] | None = None
    kind: str = "prices"
    file: str = "p.csv"

    @property
    def data(self) -> bytes:
        """Content of the file."""
        return self.content.encode() if isinstance(self.content, str) else self.content


def rows(*lines: str, end: str = "\n") -> str:
    """Text of a file."""
    return end.join([*lines, ""])


def table(dates, delimiter=",", header="date,A,B", decimal=".", quote="") -> str:
    """The two assets under dates as given."""
    lines = [header.replace(",", delimiter)]
    for i, day in enumerate(dates):
        numbers = [repr(PRICES[name][i]).replace(".", decimal) for name in "AB"]
        lines.append(delimiter.join([day, *(f"{quote}{number}{quote}" for number in numbers)]))
    return rows(*lines)


PLAIN = table(DAYS)
NAN = float("nan")
A, B = {"A": PRICES["A"]}, {"B": PRICES["B"]}
YAHOO = rows(
    "Date,Open,High,Low,Close,Adj Close,Volume",
    "2020-01-30,100,103,99,100.5,98.5,1200000",
    "2020-01-31,100,103,99,101.25,99.25,1300000",
    "2020-02-03,100,103,99,99.75,97.75,900000",
)

DIALECTS = [
    Case("commas", PLAIN),
    Case("semicolons and decimal commas", table(DAYS, ";", decimal=","), says="decimal comma"),
    Case("tabs", table(DAYS, "\t")),
    Case("bars", table(DAYS, "|")),
    Case("blanks", table(DAYS, " ")),
    Case("decimal commas in quotes", table(DAYS, decimal=",", quote='"'), says="decimal comma"),
    Case("quoted numbers", table(DAYS, quote='"')),
    Case("windows line ends", PLAIN.replace("\n", "\r\n")),
    Case("old Mac line ends", PLAIN.replace("\n", "\r")),
    Case("UTF-8 with a byte-order mark", b"\xef\xbb\xbf" + PLAIN.encode()),
    Case("UTF-16", PLAIN.encode("utf-16")),
    Case("UTF-16 big endian", b"\xfe\xff" + PLAIN.encode("utf-16-be")),
    Case("UTF-16 without its mark", PLAIN.encode("utf-16-le")),
    Case("sep= of a spreadsheet", "sep=;\n" + table(DAYS, ";")),
    Case("a comment above", "# made by hand\n" + PLAIN, says="comment"),
    Case("a title above", "Prices of my portfolio\n\n" + PLAIN, says="1 line above the header"),
    Case("a footer below", PLAIN + "Source: the exchange\n", says="1 line below the table"),
    Case("blank lines", PLAIN.replace("\n", "\n\n")),
    Case("a delimiter at every line's end", PLAIN.replace("\n", ",\n")),
    Case(
        "delimiters of an empty spreadsheet column",
        PLAIN.replace("\n", ",,\n"),
        says="2 empty columns left out",
    ),
    Case("blanks around cells", PLAIN.replace(",", " , "), says="blanks around the names"),
    Case(
        "letters in no known encoding",
        PLAIN.replace("A", "Münch").encode("cp1252"),
        words=r"line 1 is not UTF-8: it is 'Münch' in cp1252.*--encoding",
        instead={"encoding": "cp1252"},
        columns={"Münch": PRICES["A"], **B},
    ),
    Case("no delimiter", "2020-01-01\n2020-01-02\n", words="no delimiter found.*--delimiter"),
    Case("a colon as delimiter", table(DAYS, "^"), words="--delimiter", instead={"delimiter": "^"}),
]

NUMBERS = [
    Case(
        "thousands with commas",
        rows(
            "date,A,B",
            '2020-01-30,100.5,"1,200"',
            '2020-01-31,101.25,"1,234.5"',
            '2020-02-03,99.75,"1,199"',
        ),
        says="'1,200' is 1200",
    ),
    Case(
        "thousands with points",
        rows(
            "date;A;B",
            "2020-01-30;100,5;1.200",
            "2020-01-31;101,25;1.234,5",
            "2020-02-03;99,75;1.199",
        ),
        says="'1.200' is 1200",
    ),
    Case(
        "thousands with blanks that do not break",
        table(DAYS, ";", decimal=",").replace(";12", ";1\u00a02").encode("latin-1"),
    ),
    Case("thousands with apostrophes", table(DAYS).replace(",12", ",1'2")),
    Case(
        "currency signs", table(DAYS).replace(",1", ",$1").replace(",99", ",$99"), says="currency"
    ),
    Case(
        "a comma before three digits, always",
        rows("date;A", "2020-01-30;1,234", "2020-01-31;1,250", "2020-02-03;1,244"),
        words=r"not certain: '1,234' is 1234 with a decimal point and 1.234 with .*--decimal",
        instead={"decimal": ","},
        columns={"A": (1.234, 1.25, 1.244)},
    ),
    Case(
        "a point before three digits in a file with semicolons",
        rows("date;A", "2020-01-30;1.234", "2020-01-31;1.250", "2020-02-03;1.244"),
        words=r"decimal mark is not certain.*--decimal",
        instead={"decimal": ","},
        columns={"A": (1234.0, 1250.0, 1244.0)},
    ),
    Case(
        "a point before three digits in a file with commas",
        rows("date,A", "2020-01-30,1.234", "2020-01-31,1.250", "2020-02-03,1.244"),
        columns={"A": (1.234, 1.25, 1.244)},
        says="points are decimal marks: '1.234' is 1.234 .--decimal",
    ),
    Case(
        "both decimal marks",
        rows("date;A", "2020-01-30;1,25", "2020-01-31;1.26", "2020-02-03;1,27"),
        words=r"A is '1\.26' at line 3, no number with a decimal comma",
    ),
    Case("exponents", PLAIN.replace("1200.0", "1.2E3")),
    Case(
        "many words for missing",
        rows(
            "date,A,B",
            "2020-01-30,1,NA",
            "2020-01-31,None,n/a",
            "2020-02-03,3,-",
            "2020-02-04,#N/A,4",
        ),
        dates=("2020-01-30", "2020-02-03", "2020-02-04"),
        columns={"A": (1.0, 3.0, NAN), "B": (NAN, NAN, 4.0)},
        says="1 row without any number left out .2020-01-31",
    ),
    Case(
        "a word of one's own for missing",
        rows("date,A,B", "2020-01-30,1,4", "2020-01-31,closed,5", "2020-02-03,3,6"),
        words=r"A is 'closed' at line 3, no number.*--missing-value",
        instead={"missing_values": ("closed",)},
        columns={"A": (1.0, NAN, 3.0), "B": (4.0, 5.0, 6.0)},
    ),
    Case("too large", PLAIN.replace("101.25", "1e999"), words="A is '1e999' at line 3, no number"),
    Case("infinite", PLAIN.replace("101.25", "inf"), words="A is 'inf' at line 3, no number"),
    Case(
        "a decimal comma that cuts cells",
        rows("date,A,B", "2020-01-30,1,5,2,5", "2020-01-31,1,6,2,6"),
        words="line 2 has 5 cells, the header 3.*quotes",
    ),
]


def dated(*texts: str) -> str:
    """The two assets under dates in another form."""
    return table(texts)


DATES = [
    Case("day first", dated("30/01/2020", "31/01/2020", "03/02/2020"), says="day first"),
    Case("month first", dated("1/30/2020", "1/31/2020", "2/3/2020"), says="month first"),
    Case("day first with points", dated("30.01.2020", "31.01.2020", "03.02.2020")),
    Case("day first, two digits of the year", dated("30-01-20", "31-01-20", "03-02-20")),
    Case(
        "day or month first",
        dated("01/02/2020", "02/02/2020", "03/02/2020"),
        words=r"'01/02/2020' \(line 2\) is 2020-02-01 \(day first: give --day-first\) or "
        r"2020-01-02 \(month first: give --month-first\)",
        instead={"day_first": True},
        dates=("2020-02-01", "2020-02-02", "2020-02-03"),
    ),
    Case(
        "day or month first, months in a row",
        dated("01/01/2020", "01/02/2020", "01/03/2020"),
        words="several readings: '01/02/2020'",
        instead={"day_first": True},
        dates=("2020-01-01", "2020-02-01", "2020-03-01"),
    ),
    Case(
        "day and month first",
        dated("30/01/2020", "01/31/2020", "03/02/2020"),
        words="'01/31/2020' .line 3. is no date of the form of '30/01/2020' .day first., it is mo",
    ),
    Case("two digits of the year first", dated("20/01/30", "20/01/31", "20/02/03"), says="yymmdd"),
    Case(
        "day or year first",
        dated("20/01/02", "21/01/03", "22/02/04"),
        words=r"20/01/02.*2002-01-20 \(day first.*2020-01-02 \(two digits of the year first",
        instead={"date_format": "yymmdd"},
        dates=("2020-01-02", "2021-01-03", "2022-02-04"),
    ),
    Case("yyyymmdd", dated("20200130", "20200131", "20200203"), says="yyyymmdd"),
    Case("yyyymmdd as decimals", dated("20200130.0", "20200131.0", "20200203.0")),
    Case("yyyymm", dated("202001", "202002", "202003"), dates=MONTHS, says="yyyymm"),
    Case(
        "yyyymm or yymmdd",
        dated("200201", "200202", "200203"),
        words=r"'200201' .line 2. is 2002-01-31 .*--date-format yyyymm. or 2020-02-01 .*yymmdd",
        instead={"date_format": "yymmdd"},
        dates=("2020-02-01", "2020-02-02", "2020-02-03"),
    ),
    Case(
        "yyyymm of the last century",
        dated("199001", "199002", "199003"),
        dates=("1990-01-31", "1990-02-28", "1990-03-31"),
        says="yyyymm",
    ),
    Case(
        "months",
        dated("2020-01", "2020-02", "2020-03"),
        dates=MONTHS,
        says="months, dated at their last day",
    ),
    Case("months with names", dated("Jan 2020", "Feb 2020", "Mar 2020"), dates=MONTHS),
    Case(
        "quarters",
        dated("2020Q1", "2020Q2", "2020Q3"),
        dates=("2020-03-31", "2020-06-30", "2020-09-30"),
    ),
    Case(
        "years",
        dated("2018", "2019", "2020"),
        dates=("2018-12-31", "2019-12-31", "2020-12-31"),
        says="years",
    ),
    Case("names of months", dated("30-Jan-2020", "31-Jan-2020", "03-Feb-2020")),
    Case("English dates", table(('"Jan 30, 2020"', '"Jan 31, 2020"', '"Feb 3, 2020"'))),
    Case("with weekdays", dated("Thu 30 Jan 2020", "Fri 31 Jan 2020", "Mon 3 Feb 2020")),
    Case(
        "months in another language",
        dated("30. März 2020", "31. März 2020", "1. Mai 2020"),
        words="'30. März 2020' .line 2. is no date.*write dates as 2020-01-31",
    ),
    Case("Excel numbers", dated("43860", "43861", "43864"), says="Excel"),
    Case(
        "days that may be of Excel or of Unix",
        dated("18291", "18292", "18295"),
        words="18291.*1950-01-28.*--date-format excel.*2020-01-30.*--date-format unix-days",
        instead={"date_format": "unix-days"},
    ),
    Case(
        "Excel numbers of an old Mac",
        dated("42398", "42399", "42402"),
        options={"date_format": "excel1904"},
    ),
    Case("Unix seconds", dated("1580342400", "1580428800", "1580688000"), says="Unix seconds"),
    Case("Unix milliseconds", dated("1580342400000", "1580428800000", "1580688000000")),
    Case(
        "Unix nanoseconds", dated(*(f"{s}000000000" for s in (1580342400, 1580428800, 1580688000)))
    ),
    Case(
        "Unix seconds of a close",
        dated("1580418000", "1580504400", "1580763600"),
        words=r"stamped 21:00 UTC.*--time-zone",
        instead={"time_zone": "America/New_York"},
    ),
    Case(
        "row numbers instead of dates",
        dated("0", "1", "2"),
        words="numbers that are no dates .0, 1, ...: row numbers",
    ),
    Case(
        "digits lost to a spreadsheet",
        dated("2.02E+07", "2.02E+07", "2.02E+07"),
        words="no column of dates: '2.02E.07' .line 2.",
    ),
    Case(
        "months with a lost zero",
        dated("1871.08", "1871.09", "1871.1"),
        words="'1871.1' .line 4. is no date",
    ),
    Case("midnight", dated(*(f"{day} 00:00:00" for day in DAYS))),
    Case(
        "time of day",
        dated(*(f"{day} 16:00" for day in DAYS)),
        says=r"times of day \(16:00\) dropped",
    ),
    Case(
        "twelve hours", dated("1/30/2020 4:00:00 PM", "1/31/2020 4:00:00 PM", "2/3/2020 4:00:00 PM")
    ),
    Case(
        "New York over a change of clocks",
        dated(
            "2020-03-06 00:00:00-05:00", "2020-03-09 00:00:00-04:00", "2020-03-10 00:00:00-04:00"
        ),
        dates=("2020-03-06", "2020-03-09", "2020-03-10"),
        says="time zone dropped; dates are local",
    ),
    Case("UTC midnight", dated(*(f"{day}T00:00:00Z" for day in DAYS)), says="dates are in UTC"),
    Case(
        "Tokyo's midnight in UTC",
        dated(
            "2020-01-29 15:00:00+00:00", "2020-01-30 15:00:00+00:00", "2020-02-02 15:00:00+00:00"
        ),
        words="stamped 15:00 UTC .2020-01-29.*--time-zone",
        instead={"time_zone": "Asia/Tokyo"},
    ),
    Case(
        "zones here and there",
        dated("2020-01-30 00:00Z", "2020-01-31 00:00", "2020-02-03 00:00Z"),
        words="line 3. has no UTC offset while others have",
    ),
    Case(
        "several rows a day",
        dated("2020-01-30 10:00", "2020-01-30 16:00", "2020-01-31 10:00"),
        dates=("2020-01-30 10:00", "2020-01-30 16:00", "2020-01-31 10:00"),
        says="several rows a day",
    ),
    Case(
        "a date that is none",
        dated("2020-01-30", "2020-01-32", "2020-02-03"),
        words="'2020-01-32' .line 3. is no date",
    ),
    Case("a date left out", dated("2020-01-30", "", "2020-02-03"), words="line 3 has no date"),
    Case("newest first", rows("date,A,B", *reversed(PLAIN.splitlines()[1:])), says="newest first"),
    Case(
        "up and down",
        rows("date,A,B", *(PLAIN.splitlines()[i] for i in (2, 1, 3))),
        words="dates go up and down: 2020-01-30 .line 3. follows 2020-01-31.*--sort",
        instead={"sort": True},
    ),
    Case(
        "a date twice",
        PLAIN + "2020-02-03,99,1\n",
        words="several rows for 2020-02-03 .with other numbers.*--keep",
        instead={"keep": "first"},
    ),
    Case(
        "a row twice",
        PLAIN + "2020-02-03,99.75,1199\n",
        words="several rows for 2020-02-03 .with the same numbers",
        instead={"keep": "last"},
    ),
]

LAYOUTS = [
    Case(
        "yfinance, prices above tickers",
        rows(
            "Price,Close,Close,High,High,Volume,Volume",
            "Ticker,A,B,A,B,A,B",
            "Date,,,,,,",
            *(f"{d},{PRICES['A'][i]},{PRICES['B'][i]},9999,9999,5,5" for i, d in enumerate(DAYS)),
        ),
        says="of the fields Close, High, Volume, 'Close' is read",
    ),
    Case(
        "yfinance, tickers above prices, adjusted close",
        rows(
            "Ticker,A,A,B,B",
            "Price,Close,Adj Close,Close,Adj Close",
            "Date,,,,",
            *(f"{d},1,{PRICES['A'][i]},1,{PRICES['B'][i]}" for i, d in enumerate(DAYS)),
        ),
        says="'Adj Close' is read",
    ),
    Case(
        "yfinance of old, two header rows",
        rows(
            ",Adj Close,Adj Close,Close,Close",
            ",A,B,A,B",
            "Date,,,,",
            *(f"{d},{PRICES['A'][i]},{PRICES['B'][i]},1,1" for i, d in enumerate(DAYS)),
        ),
    ),
    Case(
        "two header rows and no third",
        rows(
            "Date,Close,Close",
            ",A,B",
            *(f"{d},{PRICES['A'][i]},{PRICES['B'][i]}" for i, d in enumerate(DAYS)),
        ),
    ),
    Case(
        "yfinance, one ticker",
        rows(
            "Price,Close,High,Low,Open,Volume",
            "Ticker,A,A,A,A,A",
            "Date,,,,,",
            *(f"{d},{PRICES['A'][i]},1,1,1,1" for i, d in enumerate(DAYS)),
        ),
        columns=A,
    ),
    Case(
        "a field of one's own",
        rows(
            "Price,Close,High",
            "Ticker,A,A",
            "Date,,",
            *(f"{d},1,{PRICES['A'][i]}" for i, d in enumerate(DAYS)),
        ),
        options={"field": "High"},
        columns=A,
    ),
    Case(
        "two header rows that say nothing of prices",
        rows(",tech,bank", "date,A,B", *PLAIN.splitlines()[1:]),
        words="header has 2 rows .tech, bank; A, B.*keep one",
    ),
    Case(
        "Yahoo, one asset",
        YAHOO,
        columns={"AAPL": (98.5, 99.25, 97.75)},
        file="AAPL.csv",
        says="'Adj Close'",
    ),
    Case(
        "Yahoo, its close",
        YAHOO,
        columns={"BRK.B": PRICES["A"]},
        options={"field": "Close"},
        file="BRK.B.csv",
    ),
    Case("Yahoo, named", YAHOO, columns={"X": (98.5, 99.25, 97.75)}, options={"asset": "X"}),
    Case(
        "assets named like prices",
        table(DAYS, header="date,LOW,OPEN"),
        columns={"LOW": PRICES["A"], "OPEN": PRICES["B"]},
        says="read as assets: LOW, OPEN",
    ),
    Case(
        "Nasdaq: newest first, dollars, close/last",
        rows(
            "Date,Close/Last,Volume,Open,High,Low",
            *reversed(
                [
                    f"{d[5:7]}/{d[8:]}/{d[:4]},${PRICES['A'][i]},100,$1,$1,$1"
                    for i, d in enumerate(DAYS)
                ]
            ),
        ),
        columns={"p": PRICES["A"]},
    ),
    Case(
        "two prices to choose from",
        rows("Date,Close,Price,Open,High,Low", "2020-01-30,1,2,3,4,5", "2020-01-31,1,2,3,4,5"),
        words="several columns may hold the price: Close, Price; choose by field",
    ),
    Case(
        "long",
        rows(
            "date,ticker,close",
            *(f"{d},{n},{PRICES[n][i]}" for n in "AB" for i, d in enumerate(DAYS)),
        ),
        says="long format: assets in column 'ticker', values in 'close'",
    ),
    Case(
        "long, by date, with numbers for names",
        rows(
            "permno,date,price",
            *(
                f"{n},{d},{PRICES[p][i]}"
                for i, d in enumerate(DAYS)
                for n, p in (("7203", "A"), ("14593", "B"))
            ),
        ),
        columns={"7203": PRICES["A"], "14593": PRICES["B"]},
    ),
    Case(
        "long, with volumes",
        rows(
            "symbol,date,open,close,volume",
            *(f"{n},{d},1,{PRICES[n][i]},7" for n in "AB" for i, d in enumerate(DAYS)),
        ),
    ),
    Case(
        "long, with names beside tickers",
        rows(
            "date,name,ticker,close",
            *(f"{d},Alphabet,{n},{PRICES[n][i]}" for n in "AB" for i, d in enumerate(DAYS)),
        ),
        says="assets in column 'ticker'",
    ),
    Case(
        "long, with a pair twice",
        rows("date,ticker,close", "2020-01-30,A,1", "2020-01-31,A,2", "2020-01-31,A,3"),
        words="several rows for A on 2020-01-31",
        instead={"keep": "first"},
        dates=DAYS[:2],
        columns={"A": (1.0, 2.0)},
    ),
    Case(
        "long, names that look missing",
        rows(
            "date,ticker,close",
            *(
                f"{d},{n},{PRICES[p][i]}"
                for n, p in (("NA", "A"), ("nan", "B"))
                for i, d in enumerate(DAYS)
            ),
        ),
        columns={"NA": PRICES["A"], "nan": PRICES["B"]},
    ),
    Case(
        "row numbers before the dates",
        rows(",Date,A,B", *(f"{i},{line}" for i, line in enumerate(PLAIN.splitlines()[1:]))),
        says="row numbers",
    ),
    Case(
        "dates in the last column",
        rows("A,B,Date", *(f"{PRICES['A'][i]},{PRICES['B'][i]},{d}" for i, d in enumerate(DAYS))),
    ),
    Case("an unnamed column of dates", PLAIN.replace("date,", ",")),
    Case(
        "names that look like numbers and missing values",
        table(DAYS, header="date,7203,None"),
        columns={"7203": PRICES["A"], "None": PRICES["B"]},
    ),
    Case(
        "names that pandas would change",
        table(DAYS, header="date,A.1,1.0"),
        columns={"A.1": PRICES["A"], "1.0": PRICES["B"]},
    ),
    Case(
        "a name with a comma",
        table(DAYS, header='date,"Gold, oz",B').replace('"Gold', '"Gold'),
        columns={"Gold, oz": PRICES["A"], **B},
    ),
    Case(
        "one name twice",
        table(DAYS, header="date,A,A"),
        words="2 columns are named 'A' .with other numbers.*--keep",
        instead={"keep": "last"},
        columns={"A": PRICES["B"]},
    ),
    Case(
        "a column without a name",
        table(DAYS, header="date,A,"),
        words="column with '1200.0' has no name",
    ),
    Case(
        "no header", rows(*PLAIN.splitlines()[1:]), words="there is no header: line 1 begins with"
    ),
    Case("a header alone", "date,A,B\n", words="no rows below the header"),
    Case("one row", rows(*PLAIN.splitlines()[:2]), words="1 row with numbers; give at least two"),
    Case(
        "dates alone", rows("date;", *(f"{d};" for d in DAYS)), words="no column beside the dates"
    ),
    Case("a file cut in a line", PLAIN[:-8], words="line 4 has 2 cells, the header 3"),
    Case(
        "an open quote",
        PLAIN.replace("101.25", '"101.25'),
        words="cannot be split into cells|quote",
    ),
    Case(
        "two columns of dates",
        rows("date,settlement date,A", "2020-01-30,2020-02-03,1", "2020-01-31,2020-02-04,2"),
        words="A?.*settlement date is '2020-02-03' at line 2, no number",
    ),
    Case(
        "an asset without a number",
        rows("date,A,B", *(f"{d},{PRICES['A'][i]}," for i, d in enumerate(DAYS))),
        columns={**A, "B": (NAN,) * 3},
        says="B: no number at all",
    ),
    Case(
        "a row without a number", PLAIN + "2020-02-04,,\n", says="1 row without any number left out"
    ),
]

OTHER = [
    Case("empty", "", words="the file is empty"),
    Case("a web page", "<!DOCTYPE html><html>busy</html>", words="a web page, no table"),
    Case("JSON", '{"Date": ["2020-01-30"]}', words="is JSON, no table"),
    Case("a picture", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", words="is binary"),
    Case("a PDF", b"%PDF-1.7 ...", words="a PDF: give a table as CSV"),
    Case("an old workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", words="save it as .xlsx or CSV"),
    Case("a zip archive", b"PK\x03\x04nothing", words="no Excel workbook|openpyxl", file="p.zip"),
    Case(
        "words",
        "nothing to see here\nat all\n",
        words="no delimiter found|no column of dates|has .* cells",
    ),
]

TEN = tuple(f"2020-01-{day:02d}" for day in range(6, 16))
STEPS = (0.01, -0.012, 0.004, 0.0, 0.021, -0.008, 0.013, -0.002, 0.006, -0.015)


def returns(scale: float = 1.0, sign: str = "", shift: float = 0.0) -> str:
    """Ten daily returns."""
    return rows(
        "date,A", *(f"{d},{scale * s + shift:.10g}{sign}" for d, s in zip(TEN, STEPS, strict=True))
    )


UNITS = [
    Case(
        "decimal returns",
        returns(),
        kind="returns",
        dates=TEN,
        columns={"A": STEPS},
        says="0.01 is 1 %",
    ),
    Case(
        "percent, stated",
        returns(100),
        kind="returns",
        dates=TEN,
        columns={"A": STEPS},
        options={"percent": True},
        says="divided by 100",
    ),
    Case(
        "percent, by its signs",
        returns(100, "%"),
        kind="returns",
        dates=TEN,
        columns={"A": STEPS},
        says="percent sign",
    ),
    Case(
        "percent, not stated",
        returns(100),
        kind="returns",
        words=r"standard deviation is 1\.\d+ a row.*--percent",
        instead={"percent": True},
        dates=TEN,
        columns={"A": STEPS},
    ),
    Case(
        "decimals stated as percent",
        returns(),
        kind="returns",
        options={"percent": True},
        words="too little for percent; give percent=False .--no-percent",
        instead={"percent": False},
        dates=TEN,
        columns={"A": STEPS},
    ),
    Case(
        "wild returns, stated to be decimals",
        returns(40),
        kind="returns",
        options={"percent": False},
        dates=TEN,
        columns={"A": tuple(40 * s for s in STEPS)},
    ),
    Case(
        "returns as prices",
        returns(),
        words=r"A is -0.012 on 2020-01-07; a price must be 0 or more.*--returns",
    ),
    Case(
        "prices as returns",
        PLAIN,
        kind="returns",
        words="all numbers are positive.*read them with read_prices",
    ),
    Case("gross returns", returns(shift=1.0), kind="returns", words="gross returns; subtract 1"),
    Case(
        "a return below -1",
        returns().replace("-0.012", "-1.2"),
        kind="returns",
        options={"percent": False},
        words="A is -1.2 on 2020-01-07; a return must lie between -1",
    ),
    Case(
        "a code for missing returns",
        returns().replace("-0.012", "-99.99"),
        kind="returns",
        options={"percent": False, "missing_values": ("-99.99",)},
        dates=TEN,
        columns={"A": (0.01, NAN, *STEPS[2:])},
    ),
    Case(
        "factors below -1",
        returns(60),
        kind="factors",
        options={"percent": False},
        dates=TEN,
        columns={"A": tuple(60 * s for s in STEPS)},
    ),
    Case(
        "one negative price",
        PLAIN.replace("101.25", "-37.63"),
        words="A is -37.63 on 2020-01-31.*correct the cell",
    ),
    Case(
        "prices with percent signs",
        PLAIN.replace(".5,", ".5%,")
        .replace(".25,", ".25%,")
        .replace(".75,", ".75%,")
        .replace("0\n", "0%\n")
        .replace("5\n", "5%\n"),
        words="percent sign.*--returns",
    ),
    Case(
        "a price of 0",
        PLAIN.replace("99.75", "0"),
        columns={"A": (100.5, 101.25, 0.0), **B},
        says="all lost on 2020-02-03",
    ),
    Case(
        "a total loss",
        returns().replace("-0.015", "-1"),
        kind="returns",
        dates=TEN,
        columns={"A": (*STEPS[:-1], -1.0)},
        options={"percent": False},
        says="all lost on 2020-01-15",
    ),
]

CORPUS = [*DIALECTS, *NUMBERS, *DATES, *LAYOUTS, *OTHER, *UNITS]
