"""Scores behind faults: what a clean pass gives at severity 0, closed forms on made-up scores, the command."""

import json

import pytest
import toy_roads
from calibrated import calibrated, random_cube

from spiking_centernet.cli.program import main
from spiking_centernet.data import CORRUPTIONS
from spiking_centernet.errors import ConfigError
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.robustness import corruption_names, plot, save, score_corruptions
from spiking_centernet.model import weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def model():
    return calibrated("nano", random_cube(toy_roads.SIZE_HW, num_steps=3), **toy_roads.NETWORK)


@pytest.fixture(scope="module")
def result(model, data):
    card = report.score(model, data, protocols=["none"])
    return score_corruptions(model, data, card, names=["event_drop", "background_activity"], severities=(1, 5))


def test_noise_makes_the_network_fire_and_loss_silences_it(result):
    drop1, drop5, noise1, noise5 = result.faults
    assert noise5.firing_rate > noise1.firing_rate
    assert noise5.firing_rate > result.clean_firing_rate > drop5.firing_rate
    assert result.most_active() is noise5
    assert noise5.firing_ratio == pytest.approx(noise5.firing_rate / result.clean_firing_rate)
    assert drop1.score.num_truth == result.clean.num_truth


@pytest.mark.slow
def test_what_is_saved_can_be_read_and_plotted(result, tmp_path):
    paths = save(result, tmp_path, notes={"model": "toy"})
    stored = json.loads(paths["json"].read_text())
    assert (stored["model"], stored["protocol"], stored["provenance"]["seed"]) == ("toy", "none", 0)
    assert list(stored["corruptions"]) == ["event_drop", "background_activity"]
    rows = stored["corruptions"]["event_drop"]["severities"]
    assert [(row["severity"], row["level"]) for row in rows] == [(1, 0.1), (5, 0.9)]
    assert stored["most_active"]["corruption"] == "background_activity"
    assert paths["plot"].stat().st_size > 10_000
    plot({"SNN": stored, "ANN": stored}, tmp_path / "both.svg")
    assert (tmp_path / "both.svg").stat().st_size > 2 * 10_000
    plot({str(k): stored for k in range(4)}, tmp_path / "four.svg")
    assert "#cc79a7" in (tmp_path / "four.svg").read_text()  # the fourth is drawn too


def test_names_are_checked_before_any_work():
    assert corruption_names(["all"]) == list(CORRUPTIONS)
    assert corruption_names(["downscale", "downscale"]) == ["downscale"]
    with pytest.raises(ConfigError, match="did you mean 'downscale'"):
        corruption_names(["downscal"])
    with pytest.raises(ConfigError, match="at least one"):
        corruption_names([])


@pytest.mark.slow
def test_the_command_tells_every_severity(model, data, tmp_path, capsys):
    path = str(weights.save(model, tmp_path / "toy"))
    arguments = ["val", path, "--data", str(data), "--protocol", "none"]
    assert main([*arguments, "--corrupt", "polarity_flip", "--save", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "polarity_flip" in out
    assert "most active under polarity_flip" in out
    assert (tmp_path / "out" / "robustness.json").is_file()
    # A protocol that leaves out every box: nothing to keep, which is said without a number.
    assert main(["val", path, "--data", str(data), "--corrupt", "polarity_flip"]) == 0
    out = capsys.readouterr().out
    assert "AP kept overall: -; most active" in out
    assert "nan" not in out
    assert main([*arguments, "--corrupt", "polarity_flop"]) == 2
    assert "did you mean 'polarity_flip'" in capsys.readouterr().err
