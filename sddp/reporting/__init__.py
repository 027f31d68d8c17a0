"""Figures and the HTML page of a backtest."""

from sddp.evaluation.reports.report_data import ReportOptions
from sddp.reporting.figures import (
    allocation_figure,
    trading_figure,
    trailing_figure,
    wealth_figure,
)
from sddp.reporting.gallery import write_figures
from sddp.reporting.html import write_html

__all__ = [
    "ReportOptions",
    "allocation_figure",
    "trading_figure",
    "trailing_figure",
    "wealth_figure",
    "write_figures",
    "write_html",
]
