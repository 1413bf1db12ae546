"""The ``scn`` command: parse, call, print. Every command is a function of this package; nothing imports this file."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiking_centernet.cli import parser, tables
from spiking_centernet.errors import ConfigError, SpikingCenterNetError
from spiking_centernet.utils.console import TrainingLine, console, flat_rows, say, show_table, track


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 2 after an error told in one line.

    With ``SCN_DEBUG=1`` in the environment errors show where they came from.
    """
    debug = os.environ.get("SCN_DEBUG") == "1"
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _warn
            command, arguments = parser.parse(list(sys.argv[1:] if argv is None else argv))
            _COMMANDS[command](arguments)
    except (SpikingCenterNetError, parser.ArgumentError, OSError, ModuleNotFoundError) as error:
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
        from spiking_centernet.cli.doctor import OPTIONAL

        purpose, install = OPTIONAL.get((error.name or "").split(".")[0], ("this", "see scn doctor"))
        return f"{error.name} is not installed, and {purpose} needs it; {install}"
    text = " ".join(str(error).split())
    return f"{text}; see scn --help" if isinstance(error, parser.ArgumentError) else text


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"scn: warning: {' '.join(str(message).split())}\n")


def _demo(arguments: Any) -> None:
    from spiking_centernet.experiments.demo import demo

    watched = console(stderr=True)
    run = demo(
        arguments.out, model=arguments.model, seed=arguments.seed, clips=arguments.clips,
        duration_s=arguments.duration_s, workers=arguments.workers, show_bar=watched.is_terminal, progress=track,
        say=lambda part: watched.print(f"{part} ...", markup=False),
    )  # fmt: skip
    show_table("Time", ("part", "seconds"), [*run.seconds.items(), ("together", f"{sum(run.seconds.values()):.1f}")])
    show_table("Files", ("what", "where"), list(run.files.items()), words=2)
    tables.scores(run.card)
    real = run.real
    say(
        f"real recording: {real.num_found} of {real.num_truth} hand-drawn boxes found, {real.num_false} other boxes\n"
        f"open {run.page}"
    )


def _simulate(arguments: Any) -> None:
    from spiking_centernet.simulate.conditions import Condition
    from spiking_centernet.simulate.dataset import Clips, simulate
    from spiking_centernet.simulate.statistics import summarise
    from spiking_centernet.utils.executors import Executor

    elsewhere = None
    if arguments.executor != "local":
        elsewhere = Executor(kind=arguments.executor, workers=arguments.workers)
    simulate(
        arguments.out, seed=arguments.seed, duration_s=arguments.duration_s,
        train_duration_s=arguments.train_duration_s, workers=arguments.workers,
        size_hw=parser.read_size(arguments.size or ""),
        clips=Clips(train=arguments.train, val=arguments.val, test=arguments.test),
        progress=console(stderr=True).is_terminal, world=arguments.world, profile=arguments.profile,
        condition=Condition(
            threshold_scale=arguments.threshold_scale, light=arguments.light, rain_mm_h=arguments.rain_mm_h,
            flicker_hz=arguments.flicker_hz,
        ),
        executor=elsewhere,
    )  # fmt: skip
    rows = [
        (split, s["clips"], f"{s['seconds']:.0f}", f"{s['events']:,}", f"{s['event_rate_mev_s']['mean']:.2f}",
         s["boxes"], *s["boxes_per_class"].values())
        for split, s in summarise(arguments.out).items()
    ]  # fmt: skip
    show_table(str(arguments.out), ("split", "clips", "s", "events", "Mev/s", "boxes", "cars", "pedestrians"), rows)


def _info(arguments: Any) -> None:
    from spiking_centernet.data.description import describe

    for path in arguments.recordings:
        found = describe(path, size_hw=parser.size_hw(arguments.size))
        say(str(found.path))
        tables.recording(found)


def _train(arguments: Any) -> None:
    from spiking_centernet.model.firing_rate import DEAD_BELOW
    from spiking_centernet.training.trainer import train

    with TrainingLine(arguments.recipe.epochs, DEAD_BELOW) as line:
        train(arguments.recipe, arguments.data, out=arguments.out, resume=arguments.resume, report=line)
    best = Path(arguments.out) / "best.safetensors"
    say(f"best weights: {best}\nscore them: scn val {best} --data {arguments.data}")


def _study(arguments: Any) -> None:
    from spiking_centernet.experiments.study import read_plan, study
    from spiking_centernet.experiments.study.table import HEADER, caption, cells

    if arguments.plan:
        plan = read_plan(arguments.study, changes=arguments.set)
        runs = plan.runs(Path(arguments.out))
        rows = [(run.row.name, run.recipe.seed, run.recipe.epochs, str(run.folder)) for run in runs]
        show_table(f"{plan.name}: {len(runs)} runs", ("row", "seed", "epochs", "folder"), rows)
        return
    watched = console(stderr=True)
    summary = study(
        arguments.study, arguments.data, out=arguments.out, jobs=arguments.jobs, reuse=arguments.reuse,
        changes=arguments.set, say=lambda text: watched.print(text, markup=False, soft_wrap=True),
    )  # fmt: skip
    show_table(summary.name, HEADER, [cells(line) for line in summary.lines])
    say(f"{caption(summary.to_dict())}\nwrote {Path(arguments.out) / 'study.md'} and .csv, .json, .png")


def _model(arguments: Any) -> Any:
    from spiking_centernet.deploy.engine import compile
    from spiking_centernet.model.weights import load

    device = parser.device(getattr(arguments, "device", "cpu"))
    if arguments.precision is not None and device != "cpu":
        raise ConfigError(f"--precision compiles for the processor; leave it out with --device {device}")
    model = load(arguments.model, device=device)
    if arguments.precision is None:
        return model
    return compile(model, precision=arguments.precision, sparse=arguments.sparse)


def _val(arguments: Any) -> None:
    from spiking_centernet.evaluation import report, robustness
    from spiking_centernet.model.weights import sha256

    names = robustness.corruption_names(arguments.corrupt.split(",")) if arguments.corrupt else []
    model = _model(arguments)
    protocols = arguments.protocol.split(",")
    card = report.score(
        model, arguments.data, split=arguments.split, protocols=protocols, batch_size=arguments.batch_size,
        progress=track,
    )  # fmt: skip
    tables.scores(card)
    about = {"model": arguments.model, "data": arguments.data}
    if arguments.save is not None:
        notes = about | {"sha256": sha256(arguments.model), "precision": arguments.precision}
        for path in report.save(card, model, arguments.save, notes=notes).values():
            say(f"wrote {path}")
    if names:
        result = robustness.score_faults(
            model, arguments.data, card, names=names, batch_size=arguments.batch_size, progress=track
        )
        tables.faults(result)
        if arguments.save is not None:
            for path in robustness.save(result, arguments.save, notes=about).values():
                say(f"wrote {path}")


def _detect(arguments: Any) -> None:
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.inference.recordings import detect

    run = detect(
        _model(arguments), open_recording(arguments.recording, size_hw=parser.size_hw(arguments.size)), arguments.out,
        save=arguments.save.split(","), track=arguments.track,
        every_us=parser.read_ms("every_ms", arguments.every_ms), min_score=arguments.min_score, speed=arguments.speed,
        shown_us=parser.read_ms("shown_ms", arguments.shown_ms), progress=track,
    )  # fmt: skip
    boxes = sum(len(found) for found in run.detections)
    numbers = {number for found in run.detections for number in found.track_ids.tolist() if number >= 0}
    say(f"{boxes} boxes at {len(run.detections)} instants" + (f", {len(numbers)} tracks" if arguments.track else ""))
    for path in run.paths.values():
        say(f"wrote {path}")


def _bench(arguments: Any) -> None:
    from spiking_centernet.experiments.bench import bench, race_rows

    try:
        threads = [int(word) for word in arguments.threads.split(",")]
    except ValueError as error:
        raise ConfigError(f"--threads takes numbers separated by commas, got {arguments.threads!r}") from error
    watched = console(stderr=True)
    result = bench(
        arguments.out, preset=arguments.preset, threads=threads, seconds=arguments.seconds,
        firing_rate=arguments.firing_rate, slow=not arguments.fast, seed=arguments.seed,
        say=lambda part: watched.print(f"{part} ...", markup=False),
    )  # fmt: skip
    for race in result["races"]:
        title = f"{race['threads']} threads, allocator {race['allocator']}, firing rate {race['firing_rate']:.1%}"
        show_table(title, ("", "ms", "p95", "x SpikingJelly", "of the floor"), race_rows(race))
    for name, how in result["missing"].items():
        say(f"{name} did not take part; {how}")
    say(f"wrote {Path(arguments.out) / 'bench.json'} and the plots beside it")


def _energy(arguments: Any) -> None:
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.evaluation.energy import published, report, what_follows
    from spiking_centernet.evaluation.predict import dataset_for
    from spiking_centernet.experiments import energy_page
    from spiking_centernet.model.weights import load
    from spiking_centernet.utils.provenance import provenance

    if arguments.curve is not None:
        energy_page.read_study(arguments.curve)  # refused now, not after the counting
    model = load(arguments.model, device=parser.device(arguments.device))
    found = report.costs(
        model, arguments.data, split=arguments.split, batch_size=arguments.batch_size, measure_s=arguments.measure_s,
        progress=track,
    )  # fmt: skip
    for title, header, rows, words in (*energy_page.tables(found), energy_page.published_table()):
        show_table(title, header, rows, words=words)
    say(f"{what_follows(published())}\n{found.verdict}\njoules: {energy_page.joules_in_words(found)}")
    if arguments.report is not None:
        dataset = dataset_for(model, arguments.data, arguments.split)
        clip = dataset.recordings[0]
        recording = open_recording(clip.path, size_hw=dataset.size_hw)
        say(f"wrote {report.save(found, arguments.report, notes={'model': arguments.model, 'data': arguments.data})}")
        page = energy_page.write_page(
            found, arguments.report, model=arguments.model, stamp=provenance(),
            clip=(clip.name, report.clip_activity(model, recording)), curve=arguments.curve,
        )  # fmt: skip
        say(f"open {page}")


def _convert(arguments: Any) -> None:
    from spiking_centernet.data.convert import convert

    done = convert(
        arguments.source, arguments.target, to=arguments.to, size_hw=parser.size_hw(arguments.size),
        classes=None if arguments.classes is None else arguments.classes.split(","),
        every_us=None if arguments.every_ms is None else parser.read_ms("every_ms", arguments.every_ms), progress=track,
    )  # fmt: skip
    say(f"read {done.found}\nwrote {done.path}")
    for what in done.lost or ("nothing",):
        say(f"lost: {what}")


def _stream(arguments: Any) -> None:
    import contextlib

    from spiking_centernet.data import open as open_recording
    from spiking_centernet.inference import Camera, Replay, Summary, Udp, as_line, stream
    from spiking_centernet.model.weights import load

    model, place = load(arguments.model), arguments.source
    with contextlib.ExitStack() as stack:
        if place == "camera":
            source = stack.enter_context(Camera())
        elif place.startswith("udp:"):
            size_hw = parser.size_hw(arguments.size)
            if size_hw is None:
                raise ConfigError("a socket does not say its sensor's size; give --size, width x height in pixels")
            source = Udp(place.removeprefix("udp:"), size_hw, timestamps=arguments.timestamps)
        else:
            recording = open_recording(place, size_hw=parser.size_hw(arguments.size))
            source = Replay(recording, speed=arguments.speed)
        every_us = None if arguments.every_ms is None else parser.read_ms("every_ms", arguments.every_ms)
        answers = stream(
            model, source, mode=arguments.mode, every_us=every_us, min_score=arguments.min_score,
            readout_steps=arguments.readout_steps, policy=arguments.policy, max_waiting=arguments.max_waiting,
        )  # fmt: skip
        summary = Summary()
        out = sys.stdout if arguments.save is None else stack.enter_context(open(arguments.save, "w"))
        watched = console(stderr=True)
        shown = watched.is_terminal and not out.isatty()
        status = stack.enter_context(watched.status("waiting for events")) if shown else None
        with contextlib.suppress(KeyboardInterrupt):
            for answer in summary.watch(answers):
                # Line by line, so that who reads along sees each answer at once.
                print(as_line(answer, model.config.classes), file=out, flush=True)
                if status is not None:
                    status.update(
                        f"{answer.t_us * 1e-6:.2f} s  boxes {len(answer)}  latency {answer.latency_ms:.1f} ms  "
                        f"lag {answer.lag_ms:.0f} ms  skipped {summary.num_skipped}"
                    )
    told = f"{summary.num_answers} answers, {summary.num_boxes} boxes, {summary.num_skipped} windows skipped"
    if summary.num_answers:
        told += (
            f", {summary.num_late} late events; latency {summary.latency_ms(50):.1f} ms (95%: "
            f"{summary.latency_ms(95):.1f} ms), lag at most {summary.worst_lag_ms:.0f} ms"
        )
    sys.stderr.write(f"{told}\n")


def _export(arguments: Any) -> None:
    import dataclasses

    from spiking_centernet.deploy import export
    from spiking_centernet.evaluation.predict import dataset_for
    from spiking_centernet.model.weights import load
    from spiking_centernet.utils.provenance import provenance, write_json

    model, out = load(arguments.model), Path(arguments.out)
    size_hw = parser.read_size(arguments.size or "")
    notes: dict[str, Any] = {"model": arguments.model, "file": out.name, "size_hw": size_hw}
    if arguments.data is not None and not arguments.check:
        raise ConfigError("--data is what the check scores; add --check")
    if out.suffix == ".nir":
        if (arguments.weights, arguments.steps, arguments.data) != ("float32", None, None):
            raise ConfigError(
                "a .nir file holds one step in float32, and its check compares spikes; "
                "leave out --weights, --steps and --data"
            )
        export.write_nir(model, out, size_hw, pooling=arguments.pooling)
        say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
        report = export.check_nir(model, out, size_hw) if arguments.check else None
    else:
        settings = {"weights": arguments.weights}
        run = export.export(model, out, size_hw=size_hw, num_steps=arguments.steps, **settings)
        say(f"wrote {out} ({run.num_bytes / 1e6:.1f} MB)\nrun it without this package: python {run.snippet}")
        notes |= {"weights": arguments.weights, "num_bytes": run.num_bytes, "data": arguments.data}
        dataset = None if arguments.data is None else dataset_for(model, arguments.data, arguments.split)
        report = None
        if arguments.check:
            report = export.check(
                model, run, dataset=dataset, protocol=arguments.protocol, progress=track, **settings
            )  # fmt: skip
    if report is not None:
        show_table("Check", ("what", "found"), flat_rows(dataclasses.asdict(report)), words=2)
        path = out.with_name(f"{out.name}.check.json")
        write_json(path, {**notes, "report": dataclasses.asdict(report), "provenance": provenance()})
        say(f"wrote {path}")


def _doctor(arguments: Any) -> None:
    from rich.text import Text

    from spiking_centernet.cli.doctor import examine

    rows = [
        (Text("ok", style="green") if finding.ok else Text("!!", style="bold red"), finding.what, finding.found,
         "" if finding.ok else finding.remedy)
        for finding in examine()
    ]  # fmt: skip
    show_table("", ("", "what", "found", "fix"), rows, words=4)


_COMMANDS = {
    "demo": _demo, "simulate": _simulate, "info": _info, "convert": _convert, "train": _train, "study": _study,
    "val": _val, "detect": _detect, "stream": _stream, "energy": _energy, "export": _export, "bench": _bench,
    "doctor": _doctor,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
