"""The detector that a command line asks for."""

from typing import TYPE_CHECKING

from spiking_centernet.cli.values import check_device
from spiking_centernet.errors import ConfigError

if TYPE_CHECKING:
    from spiking_centernet.model import AnyDetector, Detector


def load_network(model: str, *, device: str = "cpu") -> "Detector":
    """Return a detector on a device of this machine.

    Raises:
        ConfigError: If the machine has no such device.
        WeightsError: If the weights are missing or damaged.
    """
    from spiking_centernet.model.weights import load

    return load(model, device=check_device(device))


def load_detector(
    model: str, *, device: str = "cpu", precision: str | None = None, sparse: str = "auto"
) -> "AnyDetector":
    """Return a detector on a device, compiled for this CPU if a precision is given.

    Raises:
        ConfigError: If a GPU and a precision are asked for together, or the machine has no such device.
        WeightsError: If the weights are missing or damaged.
    """
    check_device(device)
    if precision is not None and device != "cpu":
        raise ConfigError(f"--precision compiles for the CPU; leave it out with --device {device}")
    detector = load_network(model, device=device)
    if precision is None:
        return detector
    from spiking_centernet.deploy.engine import compile

    return compile(detector, precision=precision, sparse=sparse)
