"""When an event-driven layer is faster than a dense one."""

from spiking_centernet.engine.kernels import CLayer


def events_pay(layer: CLayer, count: int) -> bool:
    """Whether a layer whose input holds ``count`` spikes is computed faster from them than densely."""
    plane = layer.input.contents
    places = layer.num_steps * layer.batch * plane.height * plane.width * plane.channels
    return count < 0.2 * places
