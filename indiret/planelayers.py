# SHIM
from indiret import architectures

# indiret.ablation names two that are gone; its rows go with this shim
ARCHITECTURES = dict(architectures.ARCHITECTURES)
ARCHITECTURES |= dict.fromkeys(("planes", "planes+resnet18"), architectures.resnet18)
