"""The ``scn`` command: parse, call, print. Every command is a function of this package; nothing imports this file."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiking_centernet import cli
from spiking_centernet.console import TrainingLine, console, track
from spiking_centernet.errors import SpikingCenterNetError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 2 after an error told in one line.

    With ``SCN_DEBUG=1`` in the environment errors show where they came from.
    """
    debug = os.environ.get("SCN_DEBUG") == "1"
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _warn
            command, arguments = cli.parse(list(sys.argv[1:] if argv is None else argv))
            _COMMANDS[command](arguments)
    except (SpikingCenterNetError, cli.ArgumentError, OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        sys.stderr.write(f"scn: error: {_one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("scn: stopped\n")
        return 130
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        from spiking_centernet.doctor import OPTIONAL

        purpose, install = OPTIONAL.get((error.name or "").split(".")[0], ("this", "see scn doctor"))
        return f"{error.name} is not installed, and {purpose} needs it; {install}"
    text = " ".join(str(error).split())
    return f"{text}; see scn --help" if isinstance(error, cli.ArgumentError) else text


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"scn: warning: {' '.join(str(message).split())}\n")


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, words: int = 1) -> None:
    """Print a table whose first ``words`` columns are words and whose others are numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k < words else "right", overflow="fold")
    for row in rows:
        # Text, so that a path with brackets is not taken for markup.
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console().print(table)


def _say(text: str) -> None:
    console().print(text, markup=False, soft_wrap=True)


def _demo(arguments: Any) -> None:
    from spiking_centernet.demo import demo

    watched = console(stderr=True)
    run = demo(
        arguments.out, model=arguments.model, seed=arguments.seed, clips=arguments.clips,
        duration_s=arguments.duration_s, workers=arguments.workers, show_bar=watched.is_terminal, progress=track,
        say=lambda part: watched.print(f"{part} ...", markup=False),
    )  # fmt: skip
    _table("Time", ("part", "seconds"), [*run.seconds.items(), ("together", f"{sum(run.seconds.values()):.1f}")])
    _table("Files", ("what", "where"), list(run.files.items()), words=2)
    _scores(run.card)
    real = run.real
    _say(
        f"real recording: {real.num_found} of {real.num_truth} hand-drawn boxes found, {real.num_false} other boxes\n"
        f"open {run.page}"
    )


def _simulate(arguments: Any) -> None:
    from spiking_centernet.simulate.roads import Clips, simulate
    from spiking_centernet.simulate.statistics import summarise

    simulate(
        arguments.out, seed=arguments.seed, duration_s=arguments.duration_s,
        train_duration_s=arguments.train_duration_s, workers=arguments.workers,
        clips=Clips(train=arguments.train, val=arguments.val, test=arguments.test),
        progress=console(stderr=True).is_terminal,
    )  # fmt: skip
    rows = [
        (split, s["clips"], f"{s['seconds']:.0f}", f"{s['events']:,}", f"{s['event_rate_mev_s']['mean']:.2f}",
         s["boxes"], *s["boxes_per_class"].values())
        for split, s in summarise(arguments.out).items()
    ]  # fmt: skip
    _table(str(arguments.out), ("split", "clips", "s", "events", "Mev/s", "boxes", "cars", "pedestrians"), rows)


def _info(arguments: Any) -> None:
    from spiking_centernet.info import describe

    for path in arguments.recordings:
        found = describe(path)
        height, width = found.size_hw
        rows = [
            ("format", found.kind),
            ("sensor", f"{width} x {height} (width x height)"),
            ("time", f"{found.start_us * 1e-6:.6f} to {found.stop_us * 1e-6:.6f} s"),
            ("duration", f"{(found.stop_us - found.start_us) * 1e-6:.6f} s"),
            ("events", f"{found.num_events:,}"),
            ("rate", "-" if found.rate_hz is None else f"{found.rate_hz / 1e6:.4f} Mev/s"),
            ("ON share", _share(found.on_share)),
            ("unsorted events", "-" if found.num_unsorted is None else f"{found.num_unsorted:,}"),
            ("silent pixels", _share(found.silent_share)),
            ("hot pixels", f"{found.hot_pixels:,}, {_share(found.hot_event_share)} of the events"),
            ("boxes beside it", "no box file" if found.num_boxes is None else f"{found.num_boxes:,}"),
        ]
        _say(str(found.path))
        _table("", ("what", "found"), rows, words=2)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _train(arguments: Any) -> None:
    from spiking_centernet.firing import DEAD_BELOW
    from spiking_centernet.train import train

    with TrainingLine(arguments.recipe.epochs, DEAD_BELOW) as line:
        train(arguments.recipe, arguments.data, out=arguments.out, resume=arguments.resume, report=line)
    best = Path(arguments.out) / "best.safetensors"
    _say(f"best weights: {best}\nscore them: scn val {best} --data {arguments.data}")


def _study(arguments: Any) -> None:
    from spiking_centernet.study import read_plan, study
    from spiking_centernet.study.table import HEADER, caption, cells

    if arguments.plan:
        plan = read_plan(arguments.study, changes=arguments.set)
        runs = plan.runs(Path(arguments.out))
        rows = [(run.row.name, run.recipe.seed, run.recipe.epochs, str(run.folder)) for run in runs]
        _table(f"{plan.name}: {len(runs)} runs", ("row", "seed", "epochs", "folder"), rows)
        return
    watched = console(stderr=True)
    summary = study(
        arguments.study, arguments.data, out=arguments.out, jobs=arguments.jobs, changes=arguments.set,
        say=lambda text: watched.print(text, markup=False, soft_wrap=True),
    )  # fmt: skip
    _table(summary.name, HEADER, [cells(line) for line in summary.lines])
    _say(f"{caption(summary.to_dict())}\nwrote {Path(arguments.out) / 'study.md'} and .csv, .json, .png")


def _val(arguments: Any) -> None:
    from spiking_centernet import scorecard
    from spiking_centernet.weights import load, sha256

    model = load(arguments.model)
    protocols = arguments.protocol.split(",")
    card = scorecard.score(
        model, arguments.data, split=arguments.split, protocols=protocols, batch_size=arguments.batch_size,
        progress=track,
    )  # fmt: skip
    _scores(card)
    if arguments.save is not None:
        notes = {"model": arguments.model, "sha256": sha256(arguments.model), "data": arguments.data}
        for path in scorecard.save(card, model, arguments.save, notes=notes).values():
            _say(f"wrote {path}")


def _scores(card: Any) -> None:
    def number(value: float) -> str:
        return "-" if value != value else f"{value:.3f}"

    title = f"{card.split}: {len(card.dataset.recordings)} recordings, {len(card.dataset)} labelled instants"
    rows = [
        (name, *map(number, (s.ap, s.ap50, s.ap75, s.ap_small, s.ap_medium, s.ap_large, s.ar100)), s.num_truth)
        for name, s in card.scores.items()
    ]
    _table(title, ("protocol", "AP", "AP50", "AP75", "small", "medium", "large", "AR100", "boxes"), rows)
    rows = [
        (name, c.name, number(c.ap), number(c.ap50), c.num_truth, c.num_detections)
        for name, s in card.scores.items()
        for c in s.classes
    ]
    _table("", ("protocol", "class", "AP", "AP50", "boxes", "detections"), rows, words=2)
    rates = card.rates.per_layer()
    what = "firing rate" if card.spiking else "share of non-zero outputs (no spikes: an ANN twin)"
    _say(f"{what}: {card.rates.overall():.2%} (layers {min(rates.values()):.2%} to {max(rates.values()):.2%})")
    if card.rates.dead():
        _say(f"dead layers: {', '.join(card.rates.dead())}")


def _detect(arguments: Any) -> None:
    from spiking_centernet.detect import detect
    from spiking_centernet.events import open as open_recording
    from spiking_centernet.weights import load

    run = detect(
        load(arguments.model), open_recording(arguments.recording), arguments.out, save=arguments.save.split(","),
        every_us=round(arguments.every_ms * 1000), min_score=arguments.min_score, speed=arguments.speed,
        shown_us=round(arguments.shown_ms * 1000), progress=track,
    )  # fmt: skip
    boxes = sum(len(found) for found in run.detections)
    _say(f"{boxes} boxes at {len(run.detections)} instants")
    for path in run.paths.values():
        _say(f"wrote {path}")


def _doctor(arguments: Any) -> None:
    from rich.text import Text

    from spiking_centernet.doctor import examine

    rows = [
        (Text("ok", style="green") if finding.ok else Text("!!", style="bold red"), finding.what, finding.found,
         "" if finding.ok else finding.remedy)
        for finding in examine()
    ]  # fmt: skip
    _table("", ("", "what", "found", "fix"), rows, words=4)


_COMMANDS = {
    "demo": _demo, "simulate": _simulate, "info": _info, "train": _train, "study": _study, "val": _val,
    "detect": _detect, "doctor": _doctor,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
