"""Compare the statistics of simulated events with those of real recordings, before (roads) and after (wide).

    python benchmarks/domain_gap.py --real DIR --roads data/roads --wide data/wide [--close data/close]
        [--out PICTURES] [--cars PNG]

DIR holds the real recordings of ``real_suite.py``; what is not there is left out and said, and those of
``tests/recordings`` always count. Each real recording stands next to the clips of those worlds that resemble it most by
how the camera is held, all seen through windows as long as its own. Writes ``results/domain_gap.json`` and, with
``--out``, pictures of real and simulated events side by side; ``--cars`` writes one of cut-out cars, real ones in the
left half, those of the wide world in the right one. Only statistics are compared; the simulator's ranges were set with
those of N-CARS' training crops in view, and no recording was used otherwise.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from real_suite import RECORDINGS, Frame, crops, every, gen31, labeled, missing, pedro
from stamp import stamp, this_command, write_result

from spiking_centernet.data import boxes_at, label_timestamps, read_boxes
from spiking_centernet.data.formats.dat import DatFile
from spiking_centernet.errors import EventFileError
from spiking_centernet.structures import Boxes
from spiking_centernet.visualize.draw import draw_boxes, events_image, mosaic, save_png

WINDOW_US = 100_000
PEDRO_US = 40_000
CAR = 0
LEAST_CROP_PX = 20
"""N-CARS holds no smaller crops of cars."""

CAR_ROWS, CAR_COLUMNS, CAR_TILE_PX = 4, 5, 120
"""Of the picture of cars: rows, columns of each half, and the side of a cell."""

SPECTRUM = (1 / 32, 1 / 4)
"""Cycles per pixel between which the slope of the spectrum is fitted."""

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Counterpart:
    """Which clips of a world stand next to a real recording: mounts and places that fit, crops of cars or frames."""

    mounts: tuple[str, ...]
    places: tuple[str, ...] = ()
    window_us: int = WINDOW_US
    car_crops: bool = False


COUNTERPARTS = {
    "ncars_cars": Counterpart(("forward", "car"), car_crops=True),
    "pedro": Counterpart(("forward", "worn"), ("path", "street", "square"), PEDRO_US),
    "desk": Counterpart(("forward", "hand", "worn"), ("desk",)),
    "bust": Counterpart(("static", "fixed", "hand"), ("room", "bare")),
    "icns": Counterpart(("static", "fixed"), ("street", "square")),
    "gen31": Counterpart(("static", "fixed"), ("room", "bare")),
}
"""By real recording; ``roads`` knows no places."""


def window_statistics(events: np.ndarray, size_hw: tuple[int, int], window_us: int) -> dict[str, float]:
    """Describe one window of events.

    Args:
        events: EVENT_DTYPE [N].
        size_hw: rows and columns.
        window_us: its length.

    Returns:
        ``rate_hz_per_px``; ``active_share`` of the pixels; ``on_share`` of the events, NaN without any; ``slope`` of
        the power spectrum of log(1 + events of a pixel) over the frequency, both logarithmic, NaN where less than two
        octaves fit into the picture.
    """
    height, width = size_hw
    pixel = events["y"].astype(np.int64) * width + events["x"]
    image = np.bincount(pixel, minlength=height * width).reshape(height, width)
    return {
        "rate_hz_per_px": len(events) / (height * width) / window_us * 1e6,
        "active_share": float((image > 0).mean()),
        "on_share": float(events["p"].mean()) if len(events) else float("nan"),
        "slope": spectrum_slope(np.log1p(image)),
    }


def spectrum_slope(image: np.ndarray) -> float:
    """Return the slope of the logarithm of the radial power spectrum over that of the frequency."""
    height, width = image.shape
    if min(height, width) < 4 / SPECTRUM[0] or not np.ptp(image):
        return float("nan")
    taper = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    power = np.abs(np.fft.rfft2((image - image.mean()) * taper)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    edges = np.geomspace(*SPECTRUM, 10)
    inside = [power[(radius >= low) & (radius < high)].mean() for low, high in pairwise(edges)]
    middle = np.sqrt(edges[1:] * edges[:-1])
    return float(np.polyfit(np.log(middle), np.log(np.array(inside) + 1e-12), 1)[0])


def crop(frame: Frame, xyxy: np.ndarray) -> Frame:
    """Return what a frame holds inside a box, as a frame of its own."""
    left, top, right, bottom = (round(float(side)) for side in xyxy)
    events = frame.events
    inside = (events["x"] >= left) & (events["x"] < right) & (events["y"] >= top) & (events["y"] < bottom)
    events = events[inside].copy()
    events["x"] -= left
    events["y"] -= top
    return Frame(frame.name, events, (bottom - top, right - left), frame.t_us, frame.truth)


def simulated(folder: Path, counterpart: Counterpart, most: int) -> Iterator[Frame]:
    """Yield labeled frames, or crops of cars, of the clips of a data set that fit, one a clip."""
    for clip in json.loads((folder / "simulation.json").read_text())["clips"]:
        scene = clip["scene"]
        if scene["mount"] not in counterpart.mounts or ("place" in scene and counterpart.places
                                                        and scene["place"] not in counterpart.places):  # fmt: skip
            continue
        path = folder / clip["split"] / f"{clip['name']}_td.dat"
        recording = DatFile(path)
        boxes = read_boxes(path.with_name(f"{clip['name']}_bbox.npy"))
        times = [t for t in label_timestamps(boxes).tolist() if t >= WINDOW_US]
        t_us = times[len(times) // 2] if times else 300_000
        if counterpart.car_crops and not times:
            continue
        span = recording.span(t_us - counterpart.window_us, t_us)
        events = recording.decode(span.start, span.stop)
        truth = boxes_at(boxes, t_us) if times else Boxes.empty()
        frame = Frame(clip["name"], events, recording.size_hw or recording.scanned.occupied_hw, t_us, truth)
        if counterpart.car_crops:
            for xyxy, label in zip(truth.xyxy, truth.labels, strict=True):
                if label == CAR and min(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]) >= LEAST_CROP_PX and most > 0:
                    most -= 1
                    yield crop(frame, xyxy)
        else:
            most -= 1
            yield frame
        if most <= 0:
            return


def summary(frames: list[Frame], window_us: int) -> dict:
    """Return quantiles of the statistics of frames, and of the height of their boxes."""
    rows = [window_statistics(frame.events, frame.size_hw, window_us) for frame in frames]
    result: dict = {"windows": len(rows)}
    for key in rows[0] if rows else ():
        values = np.array([row[key] for row in rows])
        values = values[np.isfinite(values)]
        result[key] = [round(float(v), 4) for v in np.quantile(values, QUANTILES)] if len(values) else None
    heights = np.concatenate([frame.truth.xyxy[:, 3] - frame.truth.xyxy[:, 1] for frame in frames] or [np.empty(0)])
    result["box_height_px"] = [round(float(v), 1) for v in np.quantile(heights, QUANTILES)] if len(heights) else None
    return result


def real_frames(real: Path | None) -> Iterator[tuple[str, list[Frame] | str, int]]:
    """Yield name, frames (or why there are none) and window of each real recording."""

    def from_folder(part: str, read) -> list[Frame] | str:
        why = missing(real, part)
        try:
            return why or read()
        except (ModuleNotFoundError, EventFileError) as error:
            return str(error)

    def cut(kind: str):
        return [crop(f, f.truth.xyxy[0]) for f in crops(real / "ncars") if (f.name == "car") == (kind == "car")]

    yield "ncars_cars", from_folder("ncars/", lambda: cut("car")), WINDOW_US
    yield "ncars_background", from_folder("ncars/", lambda: cut("background")), WINDOW_US
    yield "pedro", from_folder("pedro/", lambda: pedro(real / "pedro")), PEDRO_US
    for name, file in (("bust", "bust.aedat4"), ("desk", "seq_0003_e.mat")):
        path = f"negatives/{file}"
        yield name, from_folder(path, lambda path=path: list(every(real / path, WINDOW_US, WINDOW_US))), WINDOW_US
    yield "icns", labeled(RECORDINGS / "icns_roadside_cars" / "icns_roadside_cars_td.dat", WINDOW_US), WINDOW_US
    yield "gen31", gen31(WINDOW_US), WINDOW_US


def side_by_side(frames: dict[str, list[Frame]], path: Path) -> None:
    """Write a picture with a column of up to four windows for each of several sets of frames."""
    columns = []
    for chosen in frames.values():
        tiles = []
        for frame in chosen[:: max(1, len(chosen) // 4)][:4]:
            image = draw_boxes(events_image(frame.events, frame.size_hw), truth=frame.truth, scale=1)
            tile = np.zeros((260, 346, 3), np.uint8)
            image = image[:: max(1, -(-image.shape[0] // 260)), :: max(1, -(-image.shape[1] // 346))]
            tile[: image.shape[0], : image.shape[1]] = image
            tiles.append(tile)
        tiles += [np.zeros((260, 346, 3), np.uint8)] * (4 - len(tiles))
        columns.append(np.concatenate(tiles))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(np.concatenate(columns, 1), path)


def cars_side_by_side(real: list[Frame], wide: list[Frame], path: Path) -> None:
    """Write a picture of cut-out cars, every so many of each half, enlarged alike and cut where they are larger."""
    num = CAR_ROWS * CAR_COLUMNS
    halves = []
    for frames in (real, wide):
        tiles = []
        for frame in frames[:: max(1, len(frames) // num)][:num]:
            image = events_image(frame.events, frame.size_hw)[: CAR_TILE_PX // 2, : CAR_TILE_PX // 2]
            image = image.repeat(2, 0).repeat(2, 1)
            tile = np.full((CAR_TILE_PX, CAR_TILE_PX, 3), 255, np.uint8)
            tile[: image.shape[0], : image.shape[1]] = image
            tiles.append(tile)
        halves.append(mosaic(tiles, CAR_COLUMNS))
    height = max(len(half) for half in halves)
    gap = np.full((height, CAR_TILE_PX // 3, 3), 255, np.uint8)
    padded = [np.pad(half, ((0, height - len(half)), (0, 0), (0, 0)), constant_values=255) for half in halves]
    save_png(np.concatenate([padded[0], gap, padded[1]], 1), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with pedro, ncars and negatives")
    parser.add_argument("--roads", type=Path, required=True, help="a data set of scn simulate --world roads")
    parser.add_argument("--wide", type=Path, required=True, help="a data set of scn simulate --world wide")
    parser.add_argument("--close", type=Path, help="a data set of scn simulate --world close")
    parser.add_argument("--most", type=int, default=200, help="most simulated windows next to each recording")
    parser.add_argument("--out", type=Path, help="folder for pictures, which show the recordings")
    parser.add_argument("--cars", type=Path, help="picture of real and simulated cars")
    options = parser.parse_args()
    worlds = {"roads": options.roads, "wide": options.wide}
    if options.close is not None:
        worlds["close"] = options.close
    rows = []
    for name, found, window_us in real_frames(options.real):
        if isinstance(found, str):
            rows.append({"recording": name, "skipped": found})
            print(rows[-1], flush=True)
            continue
        row = {"recording": name, "window_ms": window_us // 1000, "real": summary(found, window_us)}
        sets = {"real": found}
        if name in COUNTERPARTS:
            for world, folder in worlds.items():
                sets[world] = list(simulated(folder, COUNTERPARTS[name], options.most))
                row[world] = summary(sets[world], window_us)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.cars is not None and name == "ncars_cars":
            cars_side_by_side(sets["real"], sets["wide"], options.cars)
        if options.out is not None and name in COUNTERPARTS:
            side_by_side(sets, options.out / f"{name}.png")
    head = stamp(command=this_command(), seed=None)
    write_result("domain_gap", {**head, "quantiles": QUANTILES, "recordings": rows})


if __name__ == "__main__":
    main()
