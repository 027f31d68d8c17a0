"""The data of a report on a backtest, and its findings in words."""

from sddp.evaluation.reports.report_data import ReportData, ReportOptions, collect

__all__ = ["ReportData", "ReportOptions", "collect"]
