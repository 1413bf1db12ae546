"""What a detection costs: exact operation counts, energy models with their sources, NeuroBench's metrics, joules."""

from spiking_centernet.evaluation.energy.counting import OperationCounter as OperationCounter
from spiking_centernet.evaluation.energy.counting import count_ops as count_ops
from spiking_centernet.evaluation.energy.counting import require_fully_spiking as require_fully_spiking
from spiking_centernet.evaluation.energy.meter import EnergyMeter as EnergyMeter
from spiking_centernet.evaluation.energy.meter import Joules as Joules
from spiking_centernet.evaluation.energy.meter import NoMeter as NoMeter
from spiking_centernet.evaluation.energy.meter import find_counter as find_counter
from spiking_centernet.evaluation.energy.models import MODELS as MODELS
from spiking_centernet.evaluation.energy.models import MemoryModel as MemoryModel
from spiking_centernet.evaluation.energy.models import break_evens as break_evens
from spiking_centernet.evaluation.energy.models import horowitz45 as horowitz45
from spiking_centernet.evaluation.energy.operations import Operations as Operations
from spiking_centernet.evaluation.energy.publications import NeuroBench as NeuroBench
from spiking_centernet.evaluation.energy.publications import neurobench as neurobench
from spiking_centernet.evaluation.energy.publications import published as published
from spiking_centernet.evaluation.energy.publications import what_follows as what_follows
