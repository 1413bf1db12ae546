"""What stops before a fixed camera makes no events any more: the bundled memory keeps it, other weights lose it."""

import pytest
from benchmark_files import load_benchmark

from spiking_centernet.simulate.dataset import Clips, simulate


@pytest.mark.slow
def test_a_parked_car_stays_found_while_it_makes_no_events(tmp_path):
    parked = load_benchmark("parked")
    clips = Clips(train=0, val=2, test=0)
    folder = simulate(tmp_path / "stops", world="stops", seed=123, duration_s=3, workers=1, clips=clips)
    found, labeled = {}, {}
    for name in ("nano", "nano-memory"):
        streamed = parked.streamed(name, folder, "val")
        groups = streamed.row(streamed.threshold, name)["groups"]
        still = [groups[key] for key in groups if key.startswith("still for ") and "to 0.25" not in key]
        found[name], labeled[name] = (sum(group[column] for group in still) for column in ("found", "labeled"))
    assert labeled["nano"] == labeled["nano-memory"] > 50
    assert found["nano"] < 0.02 * labeled["nano"]
    assert found["nano-memory"] > 0.1 * labeled["nano-memory"]
