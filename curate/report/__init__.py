"""The report: one page that shows what is in a finished table."""

from curricle.curate.report.page import report, report_page

__all__ = ["report", "report_page"]
