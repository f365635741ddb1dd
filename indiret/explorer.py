# SHIM
from indiret.widgets.explorer import Explorer as Explorer
from indiret.widgets.explorer import explore as explore
from indiret.widgets.explorer import explore_ranked as explore_ranked
