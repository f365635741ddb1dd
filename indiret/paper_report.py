# SHIM
from indiret.reports import write_paper_report as write_paper_report
