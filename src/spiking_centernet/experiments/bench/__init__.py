"""Speed of this machine: ours next to the roofline and other runtimes, in the same run."""

from spiking_centernet.experiments.bench.runs import race_rows as race_rows
from spiking_centernet.experiments.bench.runs import run_bench as run_bench
