"""Where the metrics of a run go besides its table: Lightning's loggers for TensorBoard, Weights & Biases, MLflow."""

from pathlib import Path
from typing import Any

from spiking_centernet.errors import need

BOARD = "tensorboard"
PROJECT = "spiking-centernet"
"""Under this project or experiment the runs are listed."""


def require_logger(kind: str) -> None:
    """Check that the packages of a logger are installed.

    Args:
        kind: "tensorboard", "wandb" or "mlflow".

    Raises:
        MissingPackageError: One is not; the message says how to install it.
    """
    need("lightning", "training", "train")
    need(kind, f"logger: {kind}", "train" if kind == BOARD else kind)


def make_logger(kind: str, folder: Path) -> Any:
    """Return the logger of a run folder, after which the run is called.

    Servers, accounts and keys are those that the tools read from their environment, for example WANDB_API_KEY and
    MLFLOW_TRACKING_URI.

    Raises:
        MissingPackageError: Its packages are not installed.
    """
    require_logger(kind)
    loggers = need("lightning.pytorch.loggers", f"logger: {kind}", "train")
    if kind == "wandb":
        return loggers.WandbLogger(name=folder.name, save_dir=folder, project=PROJECT)
    if kind == "mlflow":
        return loggers.MLFlowLogger(experiment_name=PROJECT, run_name=folder.name, save_dir=str(folder / "mlruns"))
    return need("lightning.fabric.loggers", "training", "train").TensorBoardLogger(folder, name="", version=BOARD)
