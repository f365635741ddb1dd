"""Pages to pass on: a search with its evidence, and a grid of runs beside the paper.

HTML pages hold everything inside them, load nothing and run no script.
"""

from indiret.reports.paper_report import write_paper_report
from indiret.reports.search_report import ReportHit, write_search_report

__all__ = ["ReportHit", "write_paper_report", "write_search_report"]
