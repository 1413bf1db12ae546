"""What docs/simulator.md shows of a simulated data set: its statistics as JSON and pictures of some of its clips.

    python docs/make_simulator_page.py --data data/roads

Writes ``results/roads_statistics.json`` and ``docs/images/roads_*.png``; ``python docs/fill.py`` then updates the
pages. The data set is that of ``make results``. Another one needs ``--no-pictures`` unless it has the
clips named below.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spiking_centernet.data import DatFile, boxes_at, read_boxes
from spiking_centernet.simulate.dataset import WARM_UP_S, Clip
from spiking_centernet.simulate.statistics import WINDOW_US, summarize
from spiking_centernet.structures import CLASS_NAMES, Boxes
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.visualize.draw import CLASS_COLORS, THEMES, events_image, mosaic, save_png

ROOT = Path(__file__).resolve().parents[1]

PICTURES = {
    "forward": (("test", 3, 1_250_000), ("test", 15, 1_500_000)),
    "sideways": (("test", 22, 1_500_000), ("test", 20, 1_000_000)),
    "static": (("test", 5, 1_250_000), ("test", 18, 1_500_000)),
}
"""Mount -> split, clip and labeled frame in microseconds of a day and of a night."""

SCALE = 2


def write_statistics(data: Path) -> Path:
    """Write what is in the data set, with the settings that make it again."""
    described = json.loads((data / "simulation.json").read_text())
    if not described["complete"]:
        raise SystemExit(f"{data}: is not finished; run scn simulate to its end first")
    clips = described.pop("clips")
    asked = Counter(clip["split"] for clip in clips)
    counts = " ".join(f"--{split} {asked[split]}" for split in ("train", "val", "test"))
    durations_s = described["duration_s"]
    simulated_by = (
        f"scn simulate data/roads --seed {described['seed']} {counts} --duration_s {durations_s['test']:g}"
        f" --train_duration_s {durations_s['train']:g}"
    )
    scenes = {}
    for clip in clips:
        scene = scenes.setdefault(
            f"{clip['scene']['mount']}, {clip['scene']['light']}", {"clips": 0, "seconds": 0.0, "events": 0, "boxes": 0}
        )
        scene["clips"] += 1
        scene["seconds"] += durations_s[clip["split"]]
        scene["events"] += clip["events"]
        scene["boxes"] += clip["boxes"]
    head = collect_provenance(
        command="python docs/make_simulator_page.py --data data/roads", seed=described["seed"], root=ROOT,
        ignore=("results", "docs"),
    )  # fmt: skip
    result = {
        **head, "simulated_by": simulated_by, "settings": described, "splits": summarize(data),
        "scenes": dict(sorted(scenes.items())),
    }  # fmt: skip
    return write_json(ROOT / "results" / "roads_statistics.json", result)


def picture(data: Path, seed: int, duration_us: int, split: str, index: int, t_us: int, light: str) -> list[np.ndarray]:
    """Return the rendered frame and the events before it, both with the boxes of the timestamp."""
    clip = Clip(data, seed, split, index, duration_us, DatFile(_first(data, split)).size_hw or (240, 304))
    # As make_clip draws them, so that the frame is the one behind the events.
    scene_rng = clip.rng().spawn(3)[0]
    scene = clip.world.make_scene(scene_rng, size_hw=clip.size_hw, duration_s=duration_us * 1e-6 + WARM_UP_S)
    if scene.night != (light == "night"):
        raise SystemExit(f"{clip.name}: is no {light}; the clips named in this script are those of another data set")
    luminance = np.empty(clip.size_hw, np.float32)
    scene.render(t_us * 1e-6 + WARM_UP_S, luminance)
    boxes = boxes_at(read_boxes(clip.boxes_path), t_us)
    events = DatFile(clip.events_path).read(t_us - WINDOW_US, t_us)
    frame = np.repeat(_seen(luminance)[..., None], 3, axis=2)
    text = f"{light}, {clip.name}, {t_us * 1e-6:.2f} s"
    found = f"{len(events):,} events in 100 ms"
    return [
        _boxed(frame, boxes, text, Image.Resampling.BICUBIC),
        _boxed(events_image(events, clip.size_hw), boxes, found, Image.Resampling.NEAREST),
    ]


def _first(data: Path, split: str) -> Path:
    return sorted((data / split).glob("*_td.dat"))[0]


def _seen(luminance: np.ndarray) -> np.ndarray:
    """Return linear luminance as gray levels: exposed for the brightest percent, with a display's gamma."""
    exposed = luminance / max(float(np.percentile(luminance, 99)), 1.0)
    return np.rint(255 * np.clip(exposed, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _boxed(image: np.ndarray, boxes: Boxes, caption: str, resampling: Image.Resampling) -> np.ndarray:
    height, width = image.shape[:2]
    canvas = Image.fromarray(image).resize((width * SCALE, height * SCALE), resampling)
    pen = ImageDraw.Draw(canvas)
    for label, xyxy in zip(boxes.labels.tolist(), (boxes.xyxy * SCALE).tolist(), strict=True):
        left, top, right, bottom = xyxy
        corners = (max(left, 0), max(top, 0), min(right, canvas.width) - 1, min(bottom, canvas.height) - 1)
        pen.rectangle(corners, outline=CLASS_COLORS[label], width=2)
    font = _font(15)
    length = font.getlength(caption)
    pen.rectangle((0, canvas.height - 24, length + 14, canvas.height), fill=THEMES["dark"].background)
    pen.text((7, canvas.height - 12), caption, fill=(235, 235, 235), font=font, anchor="lm")
    return np.asarray(canvas)


def _font(size_px: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size_px)


def _head(width: int) -> np.ndarray:
    """Return a line that says what the columns and the colors are."""
    canvas = Image.new("RGB", (width, 30), THEMES["dark"].background)
    pen, font = ImageDraw.Draw(canvas), _font(15)
    pen.text((7, 15), "luminance", fill=(235, 235, 235), font=font, anchor="lm")
    x = width // 2 + 10
    for word, color in (
        ("ON", THEMES["dark"].on), ("OFF", THEMES["dark"].off),
        *zip(CLASS_NAMES, CLASS_COLORS, strict=False),
    ):  # fmt: skip
        outline = color if word in CLASS_NAMES else None
        pen.rectangle((x, 9, x + 12, 21), fill=None if outline else color, outline=outline, width=2)
        pen.text((x + 19, 15), word, fill=(235, 235, 235), font=font, anchor="lm")
        x += 45 + int(font.getlength(word))
    return np.asarray(canvas)


def main() -> None:
    """Write the statistics and the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "roads")
    parser.add_argument("--no-pictures", action="store_true", help="write the statistics only")
    parser.add_argument("--no-statistics", action="store_true", help="write the pictures only")
    options = parser.parse_args()
    described = json.loads((options.data / "simulation.json").read_text())
    if not options.no_statistics:
        sys.stdout.write(f"wrote {write_statistics(options.data).relative_to(ROOT)}\n")
    if options.no_pictures:
        return
    for mount, (day, night) in PICTURES.items():
        rows = []
        for light, chosen in (("day", day), ("night", night)):
            duration_us = round(described["duration_s"][chosen[0]] * 1e6)
            rows += picture(options.data, described["seed"], duration_us, *chosen, light)
        body = mosaic(rows, 2, ground=THEMES["dark"].background)
        path = ROOT / "docs" / "images" / f"roads_{mount}.png"
        save_png(np.concatenate([_head(body.shape[1]), body]), path)
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
