"""Reports: results in; tables, figures and a page to look at out."""

from stg_eval.reports.report import write_overview_report, write_report
from stg_eval.reports.stdout import markdown

__all__ = ["markdown", "write_overview_report", "write_report"]
