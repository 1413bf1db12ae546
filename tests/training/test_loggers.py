"""The metrics of a run go to the logger that the recipe names, through Lightning's own loggers."""

import sys
import types

import pytest
import toy_roads

from spiking_centernet.errors import ConfigError, MissingPackageError
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.run_dir import RunFolder
from spiking_centernet.training.trainer import train

ROW = {"step": 3, "loss": 0.5, "firing_rate": 0.25, "ap": float("nan"), "ap50": float("nan")}


class Spy:
    made: list["Spy"]

    def __init__(self, **settings):
        self.settings, self.rows, self.ended = settings, [], None
        Spy.made.append(self)

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))

    def save(self):
        pass

    def finalize(self, status):
        self.ended = status


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("wandb", "WandbLogger", {"name": "run", "project": "spiking-centernet"}),
        ("mlflow", "MLFlowLogger", {"run_name": "run", "experiment_name": "spiking-centernet"}),
    ],
)
def test_rows_go_to_the_logger_of_the_recipe(monkeypatch, tmp_path, kind, name, settings):
    import lightning.pytorch.loggers  # takes seconds, and every process of the tests would wait for it

    Spy.made = []
    monkeypatch.setitem(sys.modules, kind, types.ModuleType(kind))
    monkeypatch.setattr(lightning.pytorch.loggers, name, Spy)
    folder = RunFolder(tmp_path / "run", {"logger": kind}, resume=False)
    folder.log(ROW)
    folder.log({**ROW, "step": 4})
    folder.finish()
    (logger,) = Spy.made
    assert logger.settings.items() >= settings.items()
    assert logger.rows == [(3, {"loss": 0.5, "firing_rate": 0.25}), (4, {"loss": 0.5, "firing_rate": 0.25})]
    assert logger.ended == "success"


def test_tensorboard_is_the_default_and_reads_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path / "run", {}, resume=False)
    folder.log(ROW)
    folder.log({**ROW, "step": 4, "loss": 0.25})
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert [(s.step, s.value) for s in board.Scalars("loss")] == [(3, 0.5), (4, 0.25)]


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_is_told_before_anything_is_written(monkeypatch, tmp_path, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    data = toy_roads.write_folder(tmp_path / "data")
    with pytest.raises(MissingPackageError, match=rf"logger: {kind} needs {kind}, which is not installed"):
        train(toy_roads.recipe(logger=kind), data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused():
    with pytest.raises(ConfigError, match="unknown logger 'wand'; did you mean 'wandb'"):
        Recipe(logger="wand")
