"""The report of a run: one page that shows what was learned, in which order, and at what cost."""

from curricle.train.reporting.page import REPORT, write_report

__all__ = ["REPORT", "write_report"]
