"""A trained network for other runtimes and simulators, each with proof that it computes the same."""

from spiking_centernet.deploy.export.contract import Contract as Contract
from spiking_centernet.deploy.export.exporting import SUFFIXES as SUFFIXES
from spiking_centernet.deploy.export.exporting import ExportRun as ExportRun
from spiking_centernet.deploy.export.exporting import check as check
from spiking_centernet.deploy.export.exporting import export_detector as export_detector
from spiking_centernet.deploy.export.exporting import run as run
from spiking_centernet.deploy.export.nir import write_nir as write_nir
from spiking_centernet.deploy.export.nir_check import NirReport as NirReport
from spiking_centernet.deploy.export.nir_check import check_nir as check_nir
from spiking_centernet.deploy.export.parity import Parity as Parity
