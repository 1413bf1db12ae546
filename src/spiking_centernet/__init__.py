"""Object detection from event cameras with spiking neural networks."""

from spiking_centernet.energy import count_ops as count_ops
from spiking_centernet.engine import Engine as Engine
from spiking_centernet.engine import compile as compile
from spiking_centernet.events import open as open
from spiking_centernet.events import voxelize as voxelize
from spiking_centernet.nn import Detector as Detector
from spiking_centernet.nn import DetectorConfig as DetectorConfig
from spiking_centernet.nn import build as build
from spiking_centernet.stream import stream as stream
from spiking_centernet.types import Boxes as Boxes
from spiking_centernet.types import Detections as Detections
from spiking_centernet.validate import evaluate as evaluate
from spiking_centernet.weights import load as load
