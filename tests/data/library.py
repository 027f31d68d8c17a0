"""Samples in the exact format of Kenneth French's library, cut to a few rows.

Layout, blanks, line ends and words are those of the library's files (vintages 2018 to 2026, as kept
in public repositories); numbers are shortened or made up.
"""

FIVE_FACTORS = (
    "This file was created by CMPT_ME_BEME_OP_INV_RETS using the 202302 CRSP database.\r\n"
    "The 1-month TBill return is from Ibbotson and Associates, Inc.\r\n"
    "\r\n"
    ",Mkt-RF,SMB,HML,RMW,CMA,RF\r\n"
    "196307,   -0.39,   -0.47,   -0.83,    0.66,   -1.15,    0.27\r\n"
    "196308,    5.07,   -0.79,    1.67,    0.39,   -0.40,    0.25\r\n"
    "196309,   -1.57,   -0.48,    0.18,   -0.76,    0.24,    0.27\r\n"
    "\r\n"
    "  Annual Factors: January-December \r\n"
    "\r\n"
    ",Mkt-RF,SMB,HML,RMW,CMA,RF\r\n"
    "  1964,   12.68,   -0.36,    9.54,   -2.05,    6.53,    3.54\r\n"
    "  1965,   10.52,   22.12,    7.46,   -1.35,   -3.21,    3.93\r\n"
    "\r\n"
    "Copyright 2023 Kenneth R. French\r\n"
)

FIVE_FACTORS_DAILY = """\
This file was created by CMPT_ME_BEME_OP_INV_RETS_DAILY using the 201806 CRSP database.
The 1-month TBill return is from Ibbotson and Associates, Inc.

,Mkt-RF,SMB,HML,RMW,CMA,RF
19630701,   -0.67,    0.00,   -0.32,    0.01,    0.15,   0.012
19630702,    0.79,   -0.27,    0.27,   -0.08,   -0.19,   0.012
19630703,    0.63,   -0.17,   -0.09,    0.19,   -0.33,   0.012
19630705,    0.40,    0.08,   -0.28,    0.07,   -0.33,   0.012

Copyright 2018 Kenneth R. French
"""

WORDS = """\
This file was created by {program} using the 202105 CRSP database.
It contains value- and equal-weighted returns for portfolios formed on ME and BEME.

The portfolios are constructed at the end of June.  BEME is book value at the last fiscal year end of the prior calendar year
divided by ME at the end of December of the prior year. 
Annual returns are from January to December.

Missing data are indicated by -99.99 or -999.

The break points include utilities and include financials.

The  portfolios  include utilities and include financials.


"""  # noqa: E501, W291  the library's own blanks


def names(size: int, second: str = "BM") -> list[str]:
    """Names of size x size portfolios as the library writes them."""
    found = [f"ME{i} {second}{j}" for i in range(1, size + 1) for j in range(1, size + 1)]
    found[0], found[size - 1] = f"SMALL Lo{second}", f"SMALL Hi{second}"
    found[-size], found[-1] = f"BIG Lo{second}", f"BIG Hi{second}"
    return found


def table(title: str, columns: list[str], rows: dict[str, list[float]], digits: int = 4) -> str:
    """A titled table, cells nine wide behind their commas."""
    lines = [
        f"{date}," + ",".join(f"{value:9.{digits}f}" for value in row) for date, row in rows.items()
    ]
    return "\n".join([title, "," + ",".join(columns), *lines]) + "\n"


def portfolios(size: int, rows: dict[str, list[float]], second: str = "BM") -> str:
    """A monthly file with all of the library's tables; only the first holds `rows`."""
    columns = names(size, second)
    other = {date: [50.0 + i for i in range(len(columns))] for date in rows}
    years = {"  1927": [10.0] * len(columns), "  1928": [-20.0] * len(columns)}
    tables = [
        table("  Average Value Weighted Returns -- Monthly", columns, rows),
        table("  Average Equal Weighted Returns -- Monthly", columns, other),
        table("  Average Value Weighted Returns -- Annual", columns, years),
        table("  Average Equal Weighted Returns -- Annual", columns, years),
        table("  Number of Firms in Portfolios", columns, other, digits=0),
        table("  Average Market Cap", columns, other, digits=2),
        table(
            "  For portfolios formed in June of year t   \n"
            "   Value Weight Average of BE/ME Calculated for June of t to June of t+1 as:    \n"
            "    Sum[ME(Mth) * BE(Fiscal Year t-1) / ME(Dec t-1)] / Sum[ME(Mth)]\n"
            "   Where Mth is a month from June of t to June of t+1",
            columns,
            other,
        ),
    ]
    head = WORDS.format(program="CMPT_ME_BEME_OP_INV_RETS")
    return head + "\n\n".join(tables) + "\nCopyright 2021 Kenneth R. French\n"


def portfolios_daily(size: int, rows: dict[str, list[float]]) -> str:
    """A daily file: two tables, two decimals."""
    columns = names(size)
    other = {date: [5.0 + 0.1 * i for i in range(len(columns))] for date in rows}
    head = WORDS.format(program="CMPT_ME_BEME_OP_INV_RETS_DAILY")
    return (
        head
        + table("  Average Value Weighted Returns -- Daily", columns, rows, digits=2)
        + "\n\n"
        + table("  Average Equal Weighted Returns -- Daily", columns, other, digits=2)
        + "\n\nCopyright 2021 Kenneth R. French\n"
    )
