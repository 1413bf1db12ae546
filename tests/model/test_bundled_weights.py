"""What the zoo says of the weights that ship is true of the files."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import toy_roads
from tiers import thorough

from spiking_centernet.evaluation.metrics import PROTOCOLS
from spiking_centernet.evaluation.prediction import evaluate
from spiking_centernet.model.weights import bundled, config_of, load, sha256

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "zoo.md").read_text()
NAMES = sorted(bundled())
DETECTORS = [name for name in NAMES if not config_of(name).classifies]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_names_the_file_by_its_hash(name):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    found = re.search(r"`([0-9a-f]{64})`", row)
    assert found
    assert found[1] == sha256(name) == hashlib.sha256(bundled()[name].read_bytes()).hexdigest()
    recipe = re.search(r"\.\./(recipes/(?:tasks/)?\w+\.yaml)", row)
    assert recipe
    assert (ROOT / recipe[1]).is_file()
    protocol = re.search(r"`(\w+)`, (?:cut-outs of )?simulated roads, split `test`", row)
    assert protocol
    assert protocol[1] in PROTOCOLS


@pytest.mark.parametrize("name", [name for name in DETECTORS if not config_of(name).voxels.takes_frames])
def test_the_weights_load_and_score(name, tmp_path):
    data = toy_roads.write_objects_beside(toy_roads.write_folder(tmp_path / "data"))
    score = evaluate(load(name), data, split="val", protocol="none")
    assert score.num_instants == 6
    assert score.num_truth == 6
    assert score.self_ap == pytest.approx(1)
    assert 0 <= score.ap <= 1


@pytest.fixture(scope="module")
def unseen_roads(tmp_path_factory):
    """Two clips that nobody trained on."""
    from spiking_centernet.simulate.dataset import Clips, simulate

    folder = tmp_path_factory.mktemp("unseen") / "roads"
    clips = Clips(train=0, val=2, test=0)
    simulate(folder, seed=77, duration_s=1.5, workers=1, clips=clips, labels=("objects", "frames"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano", *thorough(*(name for name in DETECTORS if name != "nano"))])
def test_the_weights_find_what_the_simulator_shows(name, unseen_roads):
    """A small val on clips that nobody trained on: far from the published score's precision, far from chance."""
    score = evaluate(load(name), unseen_roads, split="val", protocol="prophesee")
    assert np.isfinite(score.ap50)
    assert score.ap50 > 0.15
