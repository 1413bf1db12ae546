"""The checker of shapes and types that the tests switch on (conftest.py)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int may stand for a float, as in Python's own type rules."""

MODULES = [
    "spiking_centernet.boxes",
    "spiking_centernet.boxes3d",
    "spiking_centernet.joint_sets",
    *(f"spiking_centernet.model.{name}" for name in ("decoder", "detector", "encoder", "layers", "neurons")),
    *(
        f"spiking_centernet.model.{name}"
        for name in ("variants", "unroll", "heads.base", "heads.centernet", "heads.pyramid", "heads.ssd")
    ),
    "spiking_centernet.training.distillation",
]
"""Where arrays are annotated with their shapes."""
