"""Writes a labeled data set of a simulated world in the layout of GEN1: folders of ``_td.dat`` and ``_bbox.npy``.

Every clip has its own stream of chance, made from the seed, its split and its index, so neither the number of workers
nor the order of the clips changes a byte.
"""

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data.box_files import write_boxes
from spiking_centernet.data.formats.dat_writer import DatWriter
from spiking_centernet.data.recording import MAX_PIXELS
from spiking_centernet.errors import ConfigError, DatasetError, SpikingCenterNetError, did_you_mean
from spiking_centernet.simulate.clips import (
    LABELS,
    SPLITS,
    USUAL_CLIPS,
    Clip,
    Clips,
    read_json,
    write_json,
    write_labels,
)
from spiking_centernet.simulate.conditions import CLEAR, Condition
from spiking_centernet.simulate.frames import check_per_window
from spiking_centernet.simulate.profiles import ANY, Readout, profile_names, random_camera, random_params
from spiking_centernet.simulate.sensor import Sensor
from spiking_centernet.simulate.statistics import RecentEvents
from spiking_centernet.simulate.worlds import WORLDS, SceneFactory, world_of
from spiking_centernet.structures import BOX_DTYPE
from spiking_centernet.utils.executors import Executor
from spiking_centernet.utils.files import remove_leftovers
from spiking_centernet.utils.progress import Progress

WINDOW_S = 0.1
"""What a detector sees of a label."""

WARM_UP_S = 0.05
"""The scene runs this long before time zero, for the slowest low-pass of a day to settle on a moving picture."""

CHUNK_EVENTS = 200_000


def step_us(speed_px_s: float, bounds_us: tuple[int, int] = WORLDS["roads"].step_range_us) -> int:
    """Return the longest step within the bounds in which nothing moves more than about one pixel."""
    low, high = bounds_us
    return int(np.clip(1e6 / speed_px_s, low, high)) if speed_px_s > 0 else high


def make_clip(clip: Clip, advance: Callable[[float], object] | None = None) -> dict[str, Any]:
    """Simulate one clip and write its files, each whole or not at all.

    Args:
        clip: what to make.
        advance: called with the simulated seconds since the last call.

    Returns:
        its description: scene, sensor, counts, and the CPU seconds ``spent`` on rendering, sensing and writing.
    """
    rng = clip.rng()
    scene_rng, params_rng, sensor_rng = rng.spawn(3)
    warm_up_us = round(WARM_UP_S * 1e6)
    seconds = (clip.duration_us + warm_up_us) * 1e-6
    make_scene = clip.make_scene or clip.world.make_scene
    scene = clip.condition.scene(make_scene, scene_rng, size_hw=clip.size_hw, duration_s=seconds)
    sensor, readout, drawn = _make_sensor(clip, scene.night, params_rng, sensor_rng)
    label_us = clip.world.label_period_us
    labels_us = range(label_us, clip.duration_us, label_us)
    recent = RecentEvents(clip.size_hw, label_us)
    frame = np.empty(clip.size_hw, np.float32)
    spent = {"render_s": 0.0, "sensor_s": 0.0, "write_s": 0.0}
    clock = time.process_time  # of this process alone, so that a busy machine does not change what a clip costs
    frames, on_events, reported_us = 0, 0, 0
    with DatWriter(clip.events_path, clip.size_hw) as writer:
        waiting: list[np.ndarray] = []
        num_waiting = 0
        scene_us = 0
        stop_us = warm_up_us + clip.duration_us
        while scene_us < stop_us:
            began = clock()
            next_us = scene_us + step_us(scene.max_speed_px_s(scene_us * 1e-6), clip.world.step_range_us)
            next_us = min(next_us, warm_up_us if scene_us < warm_up_us else stop_us)
            scene.render(next_us * 1e-6, frame)
            rendered = clock()
            events = sensor.step(frame, scene_us - warm_up_us, next_us - warm_up_us)
            if readout is not None:
                events = readout.step(events, scene_us - warm_up_us, next_us - warm_up_us)
            sensed = clock()
            if scene_us >= warm_up_us and len(events):
                if readout is not None:
                    recent.add(events)
                waiting.append(events)
                num_waiting += len(events)
                on_events += int(np.count_nonzero(events["p"]))
            scene_us = next_us
            frames += 1
            if num_waiting >= CHUNK_EVENTS or (waiting and scene_us == stop_us):
                writer.append(np.concatenate(waiting))
                waiting, num_waiting = [], 0
            spent["render_s"] += rendered - began
            spent["sensor_s"] += sensed - rendered
            spent["write_s"] += clock() - sensed
            done_us = scene_us - warm_up_us
            if advance is not None and (done_us - reported_us >= 100_000 or scene_us == stop_us):
                advance((done_us - reported_us) * 1e-6)
                reported_us = done_us
        num_events = writer.num_events
    began = clock()
    boxes = [scene.boxes((t_us + warm_up_us) * 1e-6, t_us) for t_us in labels_us]
    if any(clip.world.box_events):
        least, per_px = clip.world.box_events
        boxes = [recent.filled(found, least, per_px + 1.5 * sensor.params.noise_hz * WINDOW_S) for found in boxes]
    write_boxes(clip.boxes_path, np.concatenate([np.empty(0, BOX_DTYPE), *boxes]))
    write_labels(clip, scene, boxes, labels_us, warm_up_us)
    spent["write_s"] += clock() - began
    report = {
        "name": clip.name,
        "split": clip.split,
        "events": num_events,
        "on_events": on_events,
        "boxes": sum(map(len, boxes)),
        "label_times": len(labels_us),
        "frames": frames,
        "events_bytes": clip.events_path.stat().st_size,
        "boxes_bytes": clip.boxes_path.stat().st_size,
        "scene": scene.description,
        "sensor": drawn,
    }
    write_json(clip.report_path, report)
    return report | {"spent": spent}


def _make_sensor(
    clip: Clip, night: bool, params_rng: np.random.Generator, sensor_rng: np.random.Generator
) -> tuple[Sensor, Readout | None, dict[str, Any]]:
    """Return the pixels of a clip's camera, its readout where its world has one, and what was drawn for them."""
    if not clip.world.has_profiles:
        params = clip.condition.params(random_params(params_rng, night))
        return Sensor(params, clip.size_hw, sensor_rng), None, asdict(params)
    camera = random_camera(params_rng, night, profile=clip.profile, size_hw=clip.size_hw)
    camera = replace(camera, params=clip.condition.params(camera.params))
    gain_rng, readout_rng = params_rng.spawn(2)
    gain = camera.noise_gain(clip.size_hw, gain_rng)
    sensor = Sensor(camera.params, clip.size_hw, sensor_rng, noise_gain=gain)
    return sensor, Readout(camera, readout_rng), camera.to_dict()


def simulate(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    clips: Clips = USUAL_CLIPS,
    duration_s: float = 8.0,
    train_duration_s: float | None = None,
    size_hw: tuple[int, int] = (240, 304),
    workers: int | None = None,
    resume: bool = True,
    world: str = "roads",
    profile: str = ANY,
    make_scene: SceneFactory | None = None,
    condition: Condition = CLEAR,
    labels: Sequence[str] = (),
    frames_per_window: int = 1,
    color: bool = False,
    executor: Executor | None = None,
) -> Path:
    """Simulate a data set: ``out/train|val|test/<name>_td.dat`` and ``_bbox.npy``, and ``simulation.json``.

    The same arguments give the same bytes on one kind of CPU, whatever the number of workers. A second run skips
    the clips that are finished, so a stopped job resumes where it was and a larger ``clips`` extends a data set.
    More than one worker starts new Python processes: a script that calls this needs ``if __name__ == "__main__":``.

    Args:
        out: folder to make or to resume.
        seed: decides everything.
        clips: how many per split.
        duration_s: length of each clip in seconds.
        train_duration_s: length of each training clip; None takes ``duration_s``. Many short clips show a network more
            scenes in the same time than few long ones.
        size_hw: rows and columns of the sensor.
        workers: processes, by default one per CPU; 1 runs in this one.
        resume: skip finished clips; otherwise make all of them again.
        world: of ``worlds.WORLDS``: "roads", or "wide" for any place, camera and sensor, for example.
        profile: camera of ``profiles.PROFILES``, "any" draws one for each clip; only for a world with cameras.
        make_scene: draws the scene of a clip instead of the world's own.
        condition: another threshold, only night, rain, flicker; the default changes nothing.
        labels: of ``clips.LABELS``, to write next to the boxes; they change no byte of events and boxes.
        frames_per_window: with the label "frames": pictures in the 100 ms before a label, its own included.
        color: with the label "frames": the pictures are colored; events and boxes stay what they are.
        executor: where the clips are made, instead of ``workers`` processes here.

    Returns:
        the path of ``simulation.json``: settings, and for each clip its scene, sensor and counts.

    Raises:
        ConfigError: an argument is impossible.
        DatasetError: the folder holds something else, or a worker died.
    """
    out = Path(out)
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}; leave it out to use every CPU")
    if not 0 < min(size_hw) <= size_hw[0] * size_hw[1] <= MAX_PIXELS:
        raise ConfigError(f"size_hw must be positive and of at most {MAX_PIXELS} pixels, got {tuple(size_hw)}")
    kind = world_of(world)
    if profile != ANY and not kind.has_profiles:
        raise ConfigError(f"the world {world!r} has no sensor profiles, got profile {profile!r}; leave it out")
    profile_names(profile)
    scene = make_scene or kind.make_scene
    if unknown := sorted(set(labels) - set(LABELS)):
        raise ConfigError(f"unknown labels {unknown[0]!r}{did_you_mean(unknown[0], LABELS)}")
    check_per_window(frames_per_window)
    if (frames_per_window != 1 or color) and "frames" not in labels:
        raise ConfigError('frames_per_window and color are about pictures: add "frames" to the labels, or leave it out')
    label_us = kind.label_period_us
    duration_us: dict[str, int] = dict.fromkeys(SPLITS, _duration_us("duration_s", duration_s, label_us))
    if train_duration_s is not None:
        duration_us["train"] = _duration_us("train_duration_s", train_duration_s, label_us)
    settings = {
        "simulator_version": kind.version,
        "seed": seed,
        "duration_s": {split: us * 1e-6 for split, us in duration_us.items()},
        "size_hw": list(size_hw),
        "label_period_us": label_us,
        "scene": f"{scene.__module__}.{scene.__qualname__}",
        **({"profile": profile} if kind.has_profiles else {}),
        **condition.to_dict(),
        **({"labels": sorted(labels)} if labels else {}),
        **({"frames_per_window": frames_per_window} if frames_per_window != 1 else {}),
        **({"color": True} if color else {}),
    }
    description_path = out / "simulation.json"
    _check_folder(out, settings)
    jobs = [
        Clip(
            out,
            seed,
            split,
            index,
            duration_us[split],
            (size_hw[0], size_hw[1]),
            make_scene,
            condition,
            kind,
            profile,
            tuple(sorted(labels)),
            frames_per_window,
            color,
        )
        for split in SPLITS
        for index in range(getattr(clips, split))
    ]
    write_json(description_path, {**settings, "complete": False})
    finished = {job.name: report for job in jobs if (report := job.finished() if resume else None) is not None}
    todo = [job for job in jobs if job.name not in finished]
    jobs_done = [job for job in jobs if job.name in finished]
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in (out, out / ".clips"):
        remove_leftovers(folder)
    for job in todo:
        for half_written in (out / job.split).glob(f".{job.name}_*"):  # left by a process that was killed
            half_written.unlink()
    total_s, done_s = (sum(duration_us[job.split] for job in some) * 1e-6 for some in (jobs, jobs_done))
    with Progress("simulating", total_s, done=done_s, unit="simulated s") as bar:
        made = _make_elsewhere(todo, executor) if executor else _make_all(todo, min(workers, len(todo)), bar.advance)
        for report in made:
            finished[report["name"]] = {key: value for key, value in report.items() if key != "spent"}
            if executor is not None:
                bar.advance(duration_us[report["split"]] * 1e-6)
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
    reports = [finished[job.name] for job in jobs]
    write_json(description_path, {**settings, "complete": True, "clips": reports})
    return description_path


def _duration_us(name: str, seconds: float, label_us: int) -> int:
    duration_us = round(seconds * 1e6) if math.isfinite(seconds) else 0
    if not label_us < duration_us < 2**31:
        raise ConfigError(f"{name} must be more than {label_us * 1e-6} (the first label), got {seconds}")
    return duration_us


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    description_path = out / "simulation.json"
    if not description_path.exists():
        foreign = next((path for split in SPLITS for path in (out / split).glob("*_td.dat")), None)
        if foreign is not None:
            raise DatasetError(
                f"{out} already holds recordings that are not simulated ({foreign}); choose a new folder"
            )
        return
    found = read_json(description_path)
    if found is None:
        raise DatasetError(f"{description_path} is damaged; choose a new folder, or delete this one first")
    for key in settings.keys() | found.keys() & {"condition", "labels", "frames_per_window", "color"}:
        if found.get(key) != settings.get(key):
            raise DatasetError(
                f"{out} holds a simulation with {key} {found.get(key)}, not {settings.get(key)}; "
                "choose a new folder, or delete this one first"
            )


def _make_all(todo: list[Clip], workers: int, advance: Callable[[float], object]) -> Iterable[dict[str, Any]]:
    if workers <= 1:
        for job in todo:
            yield make_clip(job, advance)
        return
    context = multiprocessing.get_context("spawn")
    ticks = context.Queue()
    with ProcessPoolExecutor(workers, context, _remember_queue, (ticks,)) as pool:
        pending = {pool.submit(_make_clip_in_worker, job) for job in todo}
        try:
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                while not ticks.empty():
                    advance(ticks.get())
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise DatasetError(
                "a worker process died, perhaps for lack of memory; run the same again, with fewer workers: "
                "the finished clips are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _make_elsewhere(todo: list[Clip], executor: Executor) -> Iterable[dict[str, Any]]:
    try:
        yield from executor.values(make_clip, todo)
    except (SpikingCenterNetError, OSError, ImportError):
        raise
    except Exception as error:  # every engine has its own for a worker that died
        raise DatasetError(
            f"a clip was not made ({type(error).__name__}: {error}); run the same again: the finished clips are kept"
        ) from error


_worker_ticks: Any = None


def _remember_queue(ticks: Any) -> None:
    global _worker_ticks
    _worker_ticks = ticks


def _make_clip_in_worker(clip: Clip) -> dict[str, Any]:
    return make_clip(clip, _worker_ticks.put)
