# SHIM
from indiret.widgets.annotator import Annotator as Annotator
