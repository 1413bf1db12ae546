"""The checker of shapes and types that the tests switch on (conftest.py)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int may stand for a float, as in Python's own type rules."""

ROOMS = [f"spiking_centernet.nn.{name}" for name in ("blocks", "centernet", "detector", "m2unet", "neuron", "resnet")]
ROOMS += ["spiking_centernet.nn.ssd", "spiking_centernet.nn.variants"]
ROOMS += ["spiking_centernet.boxes", "spiking_centernet.distill"]
"""Where arrays are annotated with their shapes."""
