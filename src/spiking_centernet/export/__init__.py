"""A trained network for other runtimes and simulators, each with proof that it computes the same."""

from spiking_centernet.export.contract import Contract as Contract
from spiking_centernet.export.exporting import SUFFIXES as SUFFIXES
from spiking_centernet.export.exporting import ExportRun as ExportRun
from spiking_centernet.export.exporting import check as check
from spiking_centernet.export.exporting import export as export
from spiking_centernet.export.parity import Parity as Parity
