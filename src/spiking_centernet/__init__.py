"""Object detection from event cameras with spiking neural networks."""

from spiking_centernet.data import open as open
from spiking_centernet.data import voxelize as voxelize
from spiking_centernet.deploy.engine import Engine as Engine
from spiking_centernet.deploy.engine import compile as compile
from spiking_centernet.evaluation.energy import count_ops as count_ops
from spiking_centernet.evaluation.predict import evaluate as evaluate
from spiking_centernet.inference import stream as stream
from spiking_centernet.model import Detector as Detector
from spiking_centernet.model import DetectorConfig as DetectorConfig
from spiking_centernet.model import build as build
from spiking_centernet.model.weights import load as load
from spiking_centernet.structures import Boxes as Boxes
from spiking_centernet.structures import Detections as Detections
