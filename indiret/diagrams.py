# SHIM
from indiret.figures.diagrams import bars as bars
from indiret.figures.diagrams import curves as curves
from indiret.figures.diagrams import heat_table as heat_table
from indiret.figures.diagrams import histograms as histograms
from indiret.figures.diagrams import interval_rows as intervals  # noqa: F401
from indiret.figures.diagrams import matrices as views  # noqa: F401
from indiret.figures.diagrams import plane_fit as planes  # noqa: F401
from indiret.figures.diagrams import trajectories as trajectories
