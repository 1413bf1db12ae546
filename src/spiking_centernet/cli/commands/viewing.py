"""The command that opens the viewer."""

from pathlib import Path
from typing import TYPE_CHECKING

from spiking_centernet.cli import output
from spiking_centernet.cli.commands.models import load_detector, open_source
from spiking_centernet.cli.values import (
    DEFAULT_MODEL,
    EnginePrecision,
    Milliseconds,
    ModeWord,
    NonNegativeInt,
    ScaleWord,
    Size,
    Sparse,
    Speed,
    UnitFloat,
    microseconds,
    read_scale,
    read_size,
)
from spiking_centernet.errors import ConfigError

if TYPE_CHECKING:
    from spiking_centernet.inference.clip import Clip
    from spiking_centernet.inference.view_live import LiveFeed


def view(
    source: str = "sample",
    *,
    model: list[str] = [DEFAULT_MODEL],  # noqa: B006
    every_ms: Milliseconds = 50.0,
    scale: ScaleWord = "auto",
    start_ms: NonNegativeInt = 0,
    stop_ms: NonNegativeInt | None = None,
    min_score: UnitFloat | None = None,
    track: bool = False,
    labels: Path | None = None,
    save: Path | None = None,
    layers: list[str] | None = None,
    live: bool = False,
    mode: ModeWord = "auto",
    speed: Speed = 1.0,
    timestamps: bool = False,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    precision: EnginePrecision | None = None,
    sparse: Sparse = "auto",
    port: NonNegativeInt = 0,
    no_browser: bool = False,
) -> None:
    """Play events in the browser with boxes, tracks, heatmap and the spikes of every layer.

    The page comes from this machine alone, under an address that nobody can guess, and loads nothing from elsewhere.

    Args:
        source: a recording of any sensor size; live: udp:HOST:PORT or camera
        model: one or several to compare: bundled names, weight files, run folders or hub ids
        every_ms: milliseconds between frames
        scale: resolution of the events over the sensor's: 0.5 is half; auto goes by the sensor
        start_ms: skip what lies before this time of the recording
        stop_ms: skip what lies after it; null: nothing
        min_score: where the page's threshold starts; null: the threshold chosen in training
        track: number the objects; show what belongs to a track
        labels: box file, shown dashed
        save: write the page as one HTML file, which needs no server, and end
        layers: with --save: keep the single spikes of these layers; null: of all that fit
        live: replay the recording at its own pace, as a camera
        mode: of a live source; windowed: each result from zero-initialized state; stateful: step by step; auto: by the
            network: stateful where it has a memory
        speed: of the replay over real time
        timestamps: the datagrams carry times
        size: of the sensor in pixels; null: as the file says; udp needs it
        columns: order of the columns of text and arrays, such as xypt; null: by their names, or as only one can be
        unit: of the times of text, arrays and HDF5: ns, us, ms or s; null: as only one can be
        precision: compile for this CPU; null: do not
        sparse: with --precision: compute from active inputs
        port: of the server; 0: any that is free
        no_browser: print the address and open no browser

    Example:
        scn view drive_td.dat --model small nano
    """
    live = live or source == "camera" or source.startswith("udp:")
    names = [_shown_name(name) for name in model]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--model names {twice!r} twice; give each once")
    for option, given, needed in (
        ("--layers", layers is not None, save is not None and not live),
        ("--mode", mode != "auto", live), ("--speed", speed != 1.0, live), ("--timestamps", timestamps, live),
    ):  # fmt: skip
        if given and not needed:
            raise ConfigError(f"{option} belongs to {'--save' if option == '--layers' else '--live'}; add it too")
    for option, given in (
        ("--save", save is not None), ("--track", track), ("--labels", labels is not None),
        ("--start_ms", start_ms > 0), ("--stop_ms", stop_ms is not None), ("several --model", len(model) > 1),
    ):  # fmt: skip
        if given and live:
            raise ConfigError(f"{option} needs a recording that is not shown live; leave it out")
    detectors = {
        shown: load_detector(name, precision=precision, sparse=sparse) for shown, name in zip(names, model, strict=True)
    }
    chosen = "auto" if scale == "auto" else read_scale([scale])
    size_hw = None if size is None else read_size(size)
    if live:
        from spiking_centernet.inference.view_live import LiveFeed

        sensor = {"size_hw": size_hw, "columns": columns, "unit": unit}
        with open_source(source, speed=speed, timestamps=timestamps, **sensor) as events:
            has_memory = detectors[names[0]].config.has_memory
            every_us = None if mode == "stateful" or (mode == "auto" and has_memory) else microseconds(every_ms)
            feed = LiveFeed(
                names[0], detectors[names[0]], events, title=Path(source).name, mode=mode, every_us=every_us,
                min_score=min_score, scale=chosen,
            )  # fmt: skip
            _serve(feed, port, no_browser=no_browser)
        return
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.data import read_boxes
    from spiking_centernet.data.cameras import camera_beside
    from spiking_centernet.inference.clip import Clip

    recording = open_recording(source, size_hw=size_hw, columns=columns, unit=unit)
    clip = Clip(
        detectors, recording, every_us=microseconds(every_ms), camera=camera_beside(recording.path),
        start_us=1000 * start_ms, stop_us=None if stop_ms is None else 1000 * stop_ms, min_score=min_score,
        scale=chosen, track=track, truth=None if labels is None else read_boxes(labels),
    )  # fmt: skip
    if save is None:
        _serve(clip, port, no_browser=no_browser)
        return
    from spiking_centernet.inference.view_page import write_page

    path = write_page(clip, save, layers=layers)
    output.show_text(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


def _serve(shown: "Clip | LiveFeed", port: int, *, no_browser: bool) -> None:
    from spiking_centernet.inference.view_server import ViewServer

    server = ViewServer(shown, port=port)
    output.show_text(f"open {server.address}\nCtrl-C ends it")
    if not no_browser:
        import webbrowser

        webbrowser.open(server.address)
    server.run()


def _shown_name(model: str) -> str:
    """Return the name of a weight file or run folder without where it lies, any other name as it is."""
    path = Path(model)
    return path.name.removesuffix(".safetensors") if path.exists() else model
