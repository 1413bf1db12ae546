"""Speed of this machine: ours beside the floor and the peers, in the same run."""

from spiking_centernet.experiments.bench.runs import race_rows as race_rows
from spiking_centernet.experiments.bench.runs import run_bench as run_bench
