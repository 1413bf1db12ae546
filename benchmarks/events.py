"""Decoding, random windows and binning, each next to the plain numpy way, interleaved in one process, one thread.

The numpy way is how the field's toolboxes do it: read records with np.fromfile, unpack by masks and shifts into a
structured array, bisect the file with seeks for a window, and bin by np.add.at on floats.

    python benchmarks/events.py
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from stamp import stamp, this_command, write_result

from spiking_centernet.data import Augmentation, DatFile, DatRecording, FolderDataset, voxelize, write_boxes, write_dat
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec

SIZE_HW = (240, 304)
RAW = np.dtype([("t", "<u4"), ("w", "<u4")])


# --- the plain numpy way ---------------------------------------------------------------------------------------------


def numpy_decode(file, offset, first, count):
    file.seek(offset + 8 * first)
    raw = np.fromfile(file, RAW, count)
    events = np.empty(len(raw), EVENT_DTYPE)
    events["t"] = raw["t"]
    events["x"] = raw["w"] & 0x3FFF
    events["y"] = (raw["w"] >> 14) & 0x3FFF
    events["p"] = (raw["w"] >> 28) & 1
    return events


def numpy_find(file, offset, num_events, t_us):
    low, high = 0, num_events
    while low < high:
        middle = (low + high) // 2
        file.seek(offset + 8 * middle)
        if int(np.fromfile(file, "<u4", 1)[0]) < t_us:
            low = middle + 1
        else:
            high = middle
    return low


def numpy_window(path, offset, num_events, start_us, stop_us):
    with path.open("rb") as file:
        first = numpy_find(file, offset, num_events, start_us)
        stop = numpy_find(file, offset, num_events, stop_us)
        return numpy_decode(file, offset, first, stop - first)


def numpy_voxelize(events, start_us, stop_us, num_steps=5, bins=2):
    cube = np.zeros((num_steps, 2 * bins, *SIZE_HW), np.float32)
    cell = (events["t"] - start_us) * (num_steps * bins) // (stop_us - start_us)
    channel = events["p"].astype(np.int64) * bins + cell % bins
    np.add.at(cube, (cell // bins, channel, events["y"].astype(np.int64), events["x"].astype(np.int64)), 1.0)
    return torch.from_numpy(cube > 0).to(torch.uint8)


def numpy_assign(events, start_us, stop_us, num_steps=5, bins=2):
    """The quicker numpy way, for binary cubes only: ones by flat index."""
    cube = np.zeros(num_steps * 2 * bins * SIZE_HW[0] * SIZE_HW[1], np.uint8)
    cell = (events["t"] - start_us) * (num_steps * bins) // (stop_us - start_us)
    channel = cell // bins * (2 * bins) + events["p"] * bins + cell % bins
    cube[(channel * SIZE_HW[0] + events["y"]) * SIZE_HW[1] + events["x"]] = 1
    return torch.from_numpy(cube.reshape(num_steps, 2 * bins, *SIZE_HW))


# --- measuring -------------------------------------------------------------------------------------------------------


def interleaved(ways, rounds, repeats=1):
    """Return every way's seconds a call in every round; the ways take turns, so that the machine's moods hit all.

    With ``repeats`` a turn is that many calls in a row, and the mean counts: what a stream of windows costs, rather
    than one window after another way has emptied the caches.
    """
    seconds = {name: [] for name in ways}
    for way in ways.values():
        way(0)
    for turn in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(repeats):
                way(turn)
            seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def summary(seconds, events_a_turn=None):
    told = {}
    for name, values in seconds.items():
        median = statistics.median(values)
        low, _, high = (round(value * 1e3, 4) for value in statistics.quantiles(values, n=4))
        told[name] = {"median_ms": round(median * 1e3, 4), "quartiles_ms": [low, high]}
        if events_a_turn:
            told[name]["million_events_per_s"] = round(events_a_turn / median / 1e6, 1)
    ratios = (numpy / ours for ours, numpy in zip(seconds["ours"], seconds["numpy"], strict=True))
    told["times_faster_than_numpy"] = round(statistics.median(ratios), 1)
    return told


def recorded(folder, num_events, rate_per_s, rng):
    events = np.empty(num_events, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, int(num_events / rate_per_s * 1e6), num_events))
    events["x"], events["y"] = rng.integers(0, SIZE_HW[1], num_events), rng.integers(0, SIZE_HW[0], num_events)
    events["p"] = rng.integers(0, 2, num_events)
    path = folder / "bench_td.dat"
    write_dat(path, events, SIZE_HW)
    return path


def measure(folder, args):
    rng = np.random.default_rng(args.seed)
    path = recorded(folder, args.events, args.rate, rng)
    recording = DatRecording(path, scan=False)
    dat = recording.dat
    offset, num_events = dat.header.data_offset, dat.num_events

    def whole_numpy(_):
        with path.open("rb") as file:
            return numpy_decode(file, offset, 0, num_events)

    assert (DatFile(path).decode() == whole_numpy(0)).all()
    decode = interleaved({"ours": lambda _: DatFile(path).decode(), "numpy": whole_numpy}, args.rounds)

    starts = rng.integers(0, dat.last_us - 100_000, args.windows)
    lengths = []

    def own_window(turn):
        events = dat.read(int(starts[turn]), int(starts[turn]) + 100_000)
        lengths.append(len(events))

    def find_only(turn):
        dat.span(int(starts[turn]), int(starts[turn]) + 100_000)

    def cube_of_window(turn):
        recording.cube(int(starts[turn]) + 100_000)

    def window_of_numpy(turn):
        return numpy_window(path, offset, num_events, int(starts[turn]), int(starts[turn]) + 100_000)

    for turn in range(3):
        own = dat.read(int(starts[turn]), int(starts[turn]) + 100_000)
        assert (own == window_of_numpy(turn)).all()
    window = interleaved(
        {"ours": own_window, "ours_finding_only": find_only, "ours_to_cube": cube_of_window, "numpy": window_of_numpy},
        args.windows,
    )

    binned = 100_000
    events = dat.decode(num_events // 2, num_events // 2 + binned)
    start_us, stop_us = int(events["t"][0]), int(events["t"][-1]) + 1
    # The same 100,000 events as a file of their own for the way that skips decoding.
    few = folder / "few_td.dat"
    write_dat(few, events, SIZE_HW)
    few_recording, spec = DatRecording(few, scan=False), VoxelSpec(stop_us - start_us)
    ways = {
        "ours": lambda _: voxelize(events, stop_us=stop_us, size_hw=SIZE_HW, spec=spec),
        "ours_from_file": lambda _: few_recording.cube(stop_us, spec),
        "numpy_assignment": lambda _: numpy_assign(events, start_us, stop_us),
        "numpy": lambda _: numpy_voxelize(events, start_us, stop_us),
    }
    cubes = [way(0) for way in ways.values()]
    assert all(torch.equal(cube, cubes[0]) for cube in cubes)
    binning = interleaved(ways, args.rounds * 2, repeats=10)

    samples = sample_times(folder, dat, rng, args.windows)
    return {
        "decode": {"events": num_events, **summary(decode, num_events)},
        "random_window_100ms": {"mean_events": round(float(np.mean(lengths))), **summary(window)},
        "binning": {"events": binned, "cube": [5, 4, *SIZE_HW], "calls_a_turn": 10, **summary(binning, binned)},
        "dataset_sample": samples,
    }


def sample_times(folder, dat, rng, count):
    """What a training sample costs in random order, from file to augmented cube."""
    split = folder / "train"
    split.mkdir()
    dat.path.rename(split / "bench_td.dat")
    boxes = np.zeros(count, BOX_DTYPE)
    boxes["ts"] = np.sort(rng.integers(100_000, dat.last_us, count))
    boxes["w"] = boxes["h"] = 30
    write_boxes(split / "bench_bbox.npy", boxes)
    plain = FolderDataset(folder, "train")
    varied = FolderDataset(folder, "train", augmentation=Augmentation())
    order = rng.permutation(len(plain))
    ways = {"plain": lambda turn: plain[order[turn]], "augmented": lambda turn: varied[order[turn]]}
    seconds = interleaved(ways, len(order))
    return {name: {"median_ms": round(statistics.median(values) * 1e3, 4)} for name, values in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rate", type=float, default=660_000, help="events a second; GEN1's mean")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args)
    path = write_result("events_speed", {**stamp(command=this_command(), seed=args.seed), **result})
    print(path.read_text())


if __name__ == "__main__":
    main()
