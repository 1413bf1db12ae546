"""The functions behind ``scn``: a command's options, help and types come from its signature and docstring."""

from collections.abc import Callable

from spiking_centernet.cli.commands.deployment import bench, export
from spiking_centernet.cli.commands.detection import demo, detect, predict, stream
from spiking_centernet.cli.commands.labeling import label
from spiking_centernet.cli.commands.learning import study, train
from spiking_centernet.cli.commands.machine import doctor
from spiking_centernet.cli.commands.recordings import convert, info, simulate
from spiking_centernet.cli.commands.scoring import energy, val

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo, "simulate": simulate, "info": info, "convert": convert, "label": label, "train": train,
    "study": study, "val": val, "detect": detect, "predict": predict, "stream": stream, "energy": energy,
    "export": export, "bench": bench, "doctor": doctor,
}  # fmt: skip
"""Every command by its name, in the order of the help."""
