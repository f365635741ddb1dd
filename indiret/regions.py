# SHIM
from indiret.datasets.regions import (  # noqa: F401
    ORIGINS,
    PhotoRegions,
    Points,
    Region,
    RegionFile,
    check_shape,
    read_regions,
    region_mask,
    write_regions,
)
