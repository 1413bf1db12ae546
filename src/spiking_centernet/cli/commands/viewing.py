"""The command that opens the viewer."""

from pathlib import Path

from spiking_centernet.cli import output
from spiking_centernet.cli.commands.models import load_detector
from spiking_centernet.cli.values import (
    EnginePrecision,
    Milliseconds,
    NonNegativeInt,
    ScaleWord,
    Size,
    Sparse,
    microseconds,
    read_scale,
    read_size,
)
from spiking_centernet.errors import ConfigError


def view(
    recording: Path,
    *,
    model: list[str] = ["small"],  # noqa: B006
    every_ms: Milliseconds = 50.0,
    scale: ScaleWord = "auto",
    start_ms: NonNegativeInt = 0,
    stop_ms: NonNegativeInt | None = None,
    track: bool = False,
    labels: Path | None = None,
    save: Path | None = None,
    layers: list[str] | None = None,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    precision: EnginePrecision | None = None,
    sparse: Sparse = "auto",
    port: NonNegativeInt = 0,
    no_browser: bool = False,
) -> None:
    """Play a recording in the browser: events, boxes, tracks, heatmap, the spikes of every layer.

    The page comes from this machine alone, under an address that nobody can guess, and loads nothing from elsewhere.

    Args:
        recording: a recording of any sensor size
        model: one or several to compare: bundled names, weight files, run folders or hub ids
        every_ms: milliseconds between frames
        scale: resolution of the events over the sensor's: 0.5 is half; auto goes by the sensor
        start_ms: skip what lies before this time of the recording
        stop_ms: skip what lies after it; null: nothing
        track: number the objects; show what belongs to a track
        labels: box file, shown dashed
        save: write the page as one HTML file, which needs no server, and end
        layers: with --save: keep the single spikes of these layers; null: of all that fit
        size: of the sensor in pixels; null: as the file says
        columns: order of the columns of text and arrays, such as xypt; null: by their names, or as only one can be
        unit: of the times of text, arrays and HDF5: ns, us, ms or s; null: as only one can be
        precision: compile for this CPU; null: do not
        sparse: with --precision: compute from active inputs
        port: of the server; 0: any that is free
        no_browser: print the address and open no browser

    Example:
        scn view drive_td.dat --model small nano
    """
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.data import read_boxes
    from spiking_centernet.inference.clip import Clip

    if layers is not None and save is None:
        raise ConfigError("--layers chooses what a file keeps; add --save, or leave it out: the server has them all")
    names = [_shown_name(name) for name in model]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"--model names {repeated[0]!r} twice; give each once")
    opened = open_recording(recording, size_hw=None if size is None else read_size(size), columns=columns, unit=unit)
    detectors = {_shown_name(name): load_detector(name, precision=precision, sparse=sparse) for name in model}
    clip = Clip(
        detectors, opened, every_us=microseconds(every_ms), start_us=1000 * start_ms,
        stop_us=None if stop_ms is None else 1000 * stop_ms, scale="auto" if scale == "auto" else read_scale([scale]),
        track=track, truth=None if labels is None else read_boxes(labels),
    )  # fmt: skip
    if save is not None:
        from spiking_centernet.inference.view_page import write_page

        path = write_page(clip, save, layers=layers)
        output.show_text(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB; open it in a browser")
        return
    from spiking_centernet.inference.view_server import ViewServer

    server = ViewServer(clip, port=port)
    output.show_text(f"open {server.address}\nCtrl-C ends it")
    if not no_browser:
        import webbrowser

        webbrowser.open(server.address)
    server.run()


def _shown_name(model: str) -> str:
    """Return the name of a weight file or run folder without where it lies, any other name as it is."""
    path = Path(model)
    return path.name.removesuffix(".safetensors") if path.exists() else model
