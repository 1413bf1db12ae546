"""The command line's words: every argument of every command."""

import argparse
import dataclasses
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.training.config import Recipe, make_recipe, read_recipe
from spiking_centernet.utils.provenance import package_version

SUMMARIES = {
    "demo": "simulate a drive, detect, score, detect in a real recording, write a page",
    "simulate": "write a labelled data set of simulated roads in GEN1's layout",
    "info": "say what is in a recording",
    "convert": "convert labels (Prophesee, COCO, YOLO, MOT), or a recording to DAT",
    "train": "train a detector by a recipe; the recipe's fields can be overridden",
    "study": "run the runs of a study, or go on with them; one table with a significance test",
    "val": "score a detector on a data set under a named protocol",
    "detect": "detect in a recording; write video, JSON, box file",
    "stream": "detect live: replay a recording, listen on a socket, or open a camera; write JSON lines",
    "energy": "count what a detection costs: operations, firing rates, energy models, measured joules",
    "export": "write a detector for ONNX, OpenVINO, AOTInductor or NIR, and check that it computes the same",
    "bench": "measure this machine: ours beside the floor and whatever peers are installed",
    "doctor": "say what is missing on this machine, and the fix",
}
EXAMPLES = {
    "demo": "scn demo --out demo",
    "simulate": "scn simulate roads --seed 0 --train 60 --val 12 --test 12",
    "info": "scn info drive_td.dat",
    "convert": "scn convert drive_bbox.npy drive.json --size 304x240",
    "train": "scn train recipes/nano_roads.yaml --data roads --out runs/nano --epochs 3 --network.neuron.kind relu",
    "study": "scn study recipes/studies/distillation.yaml --data roads --out studies/distillation --jobs 2",
    "val": "scn val nano --data roads --split test --protocol all --save results/nano",
    "detect": "scn detect nano drive_td.dat --save mp4,json --every_ms 20 --speed 0.5",
    "stream": "scn stream nano drive_td.dat --mode stateful --speed 1 --save found.jsonl",
    "energy": "scn energy nano --data roads --split test --report costs",
    "export": "scn export nano nano.onnx --check --data roads",
    "bench": "scn bench --preset paper --threads 1,2 --out bench",
    "doctor": "scn doctor",
}


DEVICES = ("cpu", "cuda")


def parse(argv: list[str]) -> tuple[str, Namespace]:
    """Return the command and its arguments; ``train`` gets a ``recipe`` that is ready to use.

    Raises:
        ConfigError: an unknown command, option or recipe field.
        argparse.ArgumentError: a value is missing or of the wrong kind.
        SystemExit: help or version was asked for and shown.
    """
    command = next((word for word in argv if not word.startswith("-")), None)
    if command is not None and command not in SUMMARIES:
        raise ConfigError(f"unknown command {command!r}{did_you_mean(command, SUMMARIES)}")
    top, parsers = _parsers()
    if command is None:
        top.parse_args(argv or ["--help"])
        raise ConfigError(f"no command given{did_you_mean('', SUMMARIES)}")
    parser = parsers[command]
    _check_options(parser, argv)
    arguments = top.parse_args(argv)[command]
    if command == "train":
        parser.set_defaults(read_recipe(arguments.recipe))
        arguments = top.parse_args(argv)[command]
        arguments.recipe = _recipe(arguments)
    return command, arguments


def _recipe(arguments: Namespace) -> Recipe:
    return make_recipe({field.name: arguments[field.name] for field in dataclasses.fields(Recipe)})


def _check_options(parser: ArgumentParser, argv: list[str]) -> None:
    known = list(parser._option_string_actions)
    for word in argv:
        name = word.split("=", 1)[0]
        if name.startswith("--") and name != "--" and name not in known and name.split(".", 1)[0] not in known:
            raise ConfigError(f"unknown option {name}{did_you_mean(name, known)}")


def _parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    settings: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "default_env": False}
    top = ArgumentParser(
        prog="scn", description="Object detection from event cameras with spiking neural networks.",
        version=package_version(), epilog="Every command explains itself: scn COMMAND --help", **settings,
    )  # fmt: skip
    commands = top.add_subcommands(dest="command", required=False)
    parsers = {}
    for name, summary in SUMMARIES.items():
        parser = ArgumentParser(
            description=f"{summary[0].upper()}{summary[1:]}.", epilog=f"example: {EXAMPLES[name]}", **settings
        )
        _FILL[name](parser)
        commands.add_subcommand(name, parser, help=summary)
        parsers[name] = parser
    return top, parsers


def _demo(parser: ArgumentParser) -> None:
    parser.add_argument("--out", default="demo", help="folder for everything")
    parser.add_argument("--model", default="small", help="bundled name, weight file, run folder or hub id")
    parser.add_argument("--seed", type=int, default=2026, help="of the simulated clips")
    parser.add_argument("--clips", type=int, default=4, help="how many clips to simulate")
    parser.add_argument("--duration_s", type=float, default=6.0, help="length of each clip in seconds")
    parser.add_argument("--workers", type=int | None, default=None, help="processes that simulate; null: one per core")


def _simulate(parser: ArgumentParser) -> None:
    parser.add_argument("out", help="folder to make or to go on with")
    parser.add_argument("--seed", type=int, default=0, help="decides everything")
    parser.add_argument("--train", type=int, default=60, help="training clips")
    parser.add_argument("--val", type=int, default=12, help="validation clips")
    parser.add_argument("--test", type=int, default=12, help="test clips")
    parser.add_argument("--duration_s", type=float, default=8.0, help="length of each clip in seconds")
    parser.add_argument("--train_duration_s", type=float | None, default=None, help="the same of training clips alone")
    _size(parser, "304x240")
    parser.add_argument("--world", default="roads", help="roads, or wide: any place, hand-held to fixed, any camera")
    parser.add_argument("--profile", default="any", help="event camera of the wide world: any, atis, davis346, ...")
    parser.add_argument("--workers", type=int | None, default=None, help="processes; null: one per core")
    parser.add_argument("--executor", default="local", help="local, or a cluster: ray, slurm")
    parser.add_argument("--threshold_scale", type=float, default=1.0, help="factor on the sensor's contrast thresholds")
    parser.add_argument("--light", default="any", help="any, or only scenes by day or night")
    parser.add_argument("--rain_mm_h", type=float, default=0.0, help="rain in millimetres an hour")
    parser.add_argument("--flicker_hz", type=float, default=0.0, help="frequency at which all light flickers")


def _info(parser: ArgumentParser) -> None:
    parser.add_argument("recordings", nargs="+", metavar="REC", help="recordings of any known format")
    _size(parser)


def _train(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML file with fields of the recipe; what it leaves out has the defaults below")
    parser.add_argument("--data", required=True, help="folder that holds train and val")
    parser.add_argument("--out", required=True, help="the run folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the run folder")
    parser.add_class_arguments(Recipe)


def _study(parser: ArgumentParser) -> None:
    parser.add_argument("study", help="YAML file that names a recipe, what varies and the seeds")
    parser.add_argument("--data", required=True, help="folder that holds train, val and test")
    parser.add_argument("--out", required=True, help="folder for the runs and the table")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--reuse", nargs="*", default=[], metavar="DIR", help="studies whose equal runs are taken over")
    parser.add_argument("--set", type=dict | None, default=None, help="changes for every run, such as {epochs: 1}")
    parser.add_argument("--plan", action="store_true", help="check the study and list its runs, train nothing")


def _val(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="bundled name, weight file, run folder or hub id")
    parser.add_argument("--data", required=True, help="folder that holds the splits")
    parser.add_argument("--split", default="val", help="folder of the split")
    parser.add_argument("--protocol", default="prophesee", help="names, separated by commas, or all")
    parser.add_argument("--save", type=str | None, default=None, metavar="DIR", help="folder for score, plots, mosaic")
    parser.add_argument("--corrupt", default="", metavar="NAMES", help="score behind sensor faults too: names, or all")
    parser.add_argument("--batch_size", type=int, default=8, help="windows at a time")
    parser.add_argument("--device", default="cpu", help="what computes: cpu, cuda, cuda:1")
    _engine(parser)


def _detect(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="bundled name, weight file, run folder or hub id")
    parser.add_argument("recording", metavar="REC", help="a recording of any sensor size")
    parser.add_argument("--save", default="mp4,json,npy", help="what to write: mp4, json, npy, png, csv (tracks)")
    parser.add_argument("--out", default=".", help="folder for the files")
    parser.add_argument("--every_ms", type=float, default=50.0, help="milliseconds between detections")
    parser.add_argument("--min_score", type=float | None, default=None, help="null: the threshold chosen in training")
    parser.add_argument("--speed", type=float, default=1.0, help="of the video over real time; 0.1 is slower")
    parser.add_argument("--shown_ms", type=float, default=40.0, help="milliseconds of events in a frame")
    parser.add_argument("--track", action="store_true", help="number the objects; keep only what belongs to a track")
    _size(parser)
    _engine(parser)


def _engine(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision", type=str | None, default=None, help="compile for this processor: fp32, bf16, int8; null: do not"
    )
    parser.add_argument("--sparse", default="auto", help="compute from active inputs: auto, never, always")


def _bench(parser: ArgumentParser) -> None:
    parser.add_argument("--out", default="bench", help="folder for bench.json and the plots")
    parser.add_argument("--preset", default="paper", help="the network, with random weights that fire as asked")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, separated by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each race")
    parser.add_argument("--firing_rate", type=float, default=0.12, help="of every layer, in the races")
    parser.add_argument("--fast", action="store_true", help="leave out what takes a minute to build")
    parser.add_argument("--seed", type=int, default=0, help="of weights and events")


def _energy(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="bundled name, weight file, run folder or hub id")
    parser.add_argument("--data", required=True, help="folder that holds the splits")
    parser.add_argument("--split", default="test", help="folder of the split")
    parser.add_argument("--report", type=str | None, default=None, metavar="DIR", help="folder for a page and the JSON")
    parser.add_argument("--curve", type=str | None, default=None, metavar="JSON", help="a firing rate study to show")
    parser.add_argument("--measure_s", type=float, default=60.0, help="most seconds to measure joules for; 0 for none")
    parser.add_argument("--batch_size", type=int, default=4, help="windows at a time")
    parser.add_argument(
        "--device", default="cpu", help="what computes, and whose joules are measured: cpu, cuda, cuda:1"
    )


def _convert(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="box file, COCO JSON, folder of YOLO labels, MOT text, or a recording")
    parser.add_argument("target", help="what to write; its ending says the format, none is a folder for YOLO")
    parser.add_argument("--to", type=str | None, default=None, help="gen1, 1mpx, coco, yolo, mot or dat instead")
    parser.add_argument("--classes", type=str | None, default=None, help="names, where the source has numbers only")
    parser.add_argument("--every_ms", type=float | None, default=None, help="between pictures without times")
    _size(parser)


def _size(parser: ArgumentParser, default: str | None = None, text: str = "of the sensor in pixels") -> None:
    parser.add_argument("--size", type=str | None, default=default, metavar="WIDTHxHEIGHT", help=text)


def device(name: str) -> str:
    """Return the name of a device that computes here: "cpu", "cuda", "cuda:1".

    Raises:
        ConfigError: it is not written so, or this machine has no such device.
    """
    import torch

    kind, colon, number = name.partition(":")
    if kind not in DEVICES or bool(colon) != number.isdecimal() or (kind == "cpu" and colon):
        raise ConfigError(f"--device is cpu, cuda, or one GPU of several as in cuda:1, got {name!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch finds {torch.cuda.device_count()} GPUs here; see scn doctor")
    return name


def _stream(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="bundled name, weight file, run folder or hub id")
    parser.add_argument("source", metavar="REC", help="a recording to replay, udp:HOST:PORT, or camera")
    parser.add_argument("--mode", default="windowed", help="windowed: each answer from rest; stateful: step by step")
    parser.add_argument("--speed", type=float, default=1.0, help="of the replay over real time")
    parser.add_argument("--every_ms", type=float | None, default=None, help="null: 50, or every step when stateful")
    parser.add_argument("--policy", default="drop", help="when events come faster than answers: wait, drop or merge")
    parser.add_argument("--max_waiting", type=int, default=4, help="windows that may wait")
    parser.add_argument("--min_score", type=float | None, default=None, help="null: the threshold chosen in training")
    parser.add_argument("--readout_steps", type=int | None, default=None, help="steps that a stateful answer averages")
    _size(parser, text="of the sensor in pixels; udp needs it")
    parser.add_argument("--timestamps", action="store_true", help="the datagrams carry times")
    parser.add_argument("--save", type=str | None, default=None, metavar="FILE", help="JSON lines; null: to the output")


def _export(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="bundled name, weight file, run folder or hub id")
    parser.add_argument("out", metavar="OUT", help="file to write; the suffix decides: .onnx, .xml, .pt2, .nir")
    _size(parser, "304x240")
    parser.add_argument("--steps", type=int | None, default=None, help="time steps of a call; null: a whole window")
    parser.add_argument("--weights", default="float32", help="float32 or int8")
    parser.add_argument("--pooling", default="threshold", help="in NIR: threshold, or neuron for older importers")
    parser.add_argument("--check", action="store_true", help="compare with the network on real windows; write a report")
    parser.add_argument("--data", type=str | None, default=None, help="with --check: folder to score both on")
    parser.add_argument("--split", default="val", help="folder of the split")
    parser.add_argument("--protocol", default="prophesee", help="of the score")


def size_hw(text: str | None) -> tuple[int, int] | None:
    """Return height and width of a size written as width x height, for example "304x240"; None from None.

    Raises:
        ConfigError: it is not written so.
    """
    return None if text is None else read_size(text)


def read_size(text: str) -> tuple[int, int]:
    """The same of a size that has to be given."""
    width, _, height = text.lower().partition("x")
    if not all(side.isdigit() and int(side) for side in (width, height)):
        raise ConfigError(f"--size is written as width x height in pixels, for example 304x240, got {text!r}")
    return int(height), int(width)


def read_ms(name: str, ms: float) -> int:
    """Return the microseconds of an option in milliseconds.

    Raises:
        ConfigError: it is no time from a microsecond to an hour.
    """
    if not 1e-3 <= ms <= 3.6e6:
        raise ConfigError(f"--{name} must lie between 0.001 and 3600000 milliseconds, got {ms}")
    return round(ms * 1000)


def _doctor(parser: ArgumentParser) -> None:
    pass


_FILL = {
    "demo": _demo, "simulate": _simulate, "info": _info, "convert": _convert, "train": _train, "study": _study,
    "val": _val, "detect": _detect, "stream": _stream, "energy": _energy, "export": _export, "bench": _bench,
    "doctor": _doctor,
}  # fmt: skip

ArgumentError = argparse.ArgumentError
"""What :func:`parse` raises for missing and malformed values."""
