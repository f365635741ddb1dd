# SHIM
from indiret.figures import Picture as Picture
from indiret.figures import jpeg as jpeg
from indiret.figures import shrink as shrink
from indiret.reports import ReportHit as ReportHit
from indiret.reports import write_search_report as write_report  # noqa: F401
