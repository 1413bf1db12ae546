"""The network: neurons, encoder, decoder, heads, loss and decoding; knows no file and no data set."""

from spiking_centernet.model.config import DetectorConfig as DetectorConfig
from spiking_centernet.model.config import NeuronConfig as NeuronConfig
from spiking_centernet.model.context import State as State
from spiking_centernet.model.detector import AnyDetector as AnyDetector
from spiking_centernet.model.detector import Detector as Detector
from spiking_centernet.model.detector import build as build
from spiking_centernet.model.heads import HEADS as HEADS
from spiking_centernet.model.heads import Head as Head
from spiking_centernet.model.heads.centernet import DetectorOutput as DetectorOutput
from spiking_centernet.model.neurons import PLIF as PLIF
from spiking_centernet.model.neurons import plif_step as plif_step
from spiking_centernet.model.presets import PRESETS as PRESETS
from spiking_centernet.ops.memory_saving import Memory as Memory
