"""The report of an evaluation: one page that says what was found, and pictures to see it."""

from hg3.evaluation.report.page import write_report

__all__ = ["write_report"]
