"""The curves of a run; conftest.py keeps other trainings of the tests from drawing them."""

import pytest
from PIL import Image

from spiking_centernet.training import run_dir
from spiking_centernet.visualize.plots import curves_plot

LOSSES = [{"step": step, "loss": 2.0 / step} for step in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scores", "titles"),
    [
        ({"ap": 0.25, "ap50": 0.5}, ["loss", "AP on validation", "firing rate"]),
        ({"classify_accuracy": 0.75}, ["loss", "accuracy on validation", "firing rate"]),
    ],
    ids=["detector", "classifier"],
)
def test_a_run_ends_with_the_curves_of_its_metrics(tmp_path, monkeypatch, scores, titles):
    drawn = []

    def draw(columns, path, *, panels):
        curves_plot(columns, path, panels=panels)
        drawn.append((columns, list(panels)))

    monkeypatch.setattr(run_dir, "curves_plot", draw)
    folder = run_dir.RunFolder(tmp_path / "run", {}, resume=False)
    for row in (*LOSSES, {"step": 3, "epoch": 0, "firing_rate": 0.1, **scores}):
        folder.log(row)
    folder.finish()
    ((columns, found),) = drawn
    assert found == titles
    assert columns["step"] == [1, 2, 3, 3]
    for name, value in scores.items():
        assert columns[name] == [None, None, None, value]
    with Image.open(tmp_path / "run" / "pictures" / "curves.png") as picture:
        assert picture.size == (1638, 403)
        assert len(picture.getcolors(1 << 24)) > 2
