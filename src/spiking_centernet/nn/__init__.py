"""The network: neurons, encoder, decoder, heads, loss and decoding; knows no file and no data set."""

from spiking_centernet.nn.blocks import State as State
from spiking_centernet.nn.centernet import centernet_loss as centernet_loss
from spiking_centernet.nn.centernet import detections as detections
from spiking_centernet.nn.centernet import make_targets as make_targets
from spiking_centernet.nn.centernet import training_loss as training_loss
from spiking_centernet.nn.detector import PRESETS as PRESETS
from spiking_centernet.nn.detector import AnyDetector as AnyDetector
from spiking_centernet.nn.detector import Detector as Detector
from spiking_centernet.nn.detector import DetectorConfig as DetectorConfig
from spiking_centernet.nn.detector import DetectorOutput as DetectorOutput
from spiking_centernet.nn.detector import build as build
from spiking_centernet.nn.memory import Memory as Memory
from spiking_centernet.nn.neuron import PLIF as PLIF
from spiking_centernet.nn.neuron import plif_step as plif_step
