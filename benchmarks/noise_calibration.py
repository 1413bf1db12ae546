"""Compare the simulated noise of two cameras with recordings of the real ones looking at a static scene.

    python benchmarks/noise_calibration.py --recordings DIR

``DIR`` holds ``imx636_static_noise`` and ``dvxplorer_static_noise``, each with its ``_td.dat``. Writes
``results/noise_calibration.json`` and ``docs/images/noise_calibration.png``.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from stamp import stamp, this_command, write_result

from spiking_centernet.data.formats.dat import DatFile
from spiking_centernet.simulate.calibration import DVXPLORER_STATIC, IMX636_STATIC, noise_statistics, static_noise

ROOT = Path(__file__).parents[1]
CAMERAS = {
    "imx636_static_noise": ("IMX636, 1280 x 720", IMX636_STATIC),
    "dvxplorer_static_noise": ("DVXplorer, 640 x 480", DVXPLORER_STATIC),
}
REAL, OURS = "#1b6ca8", "#e07b39"


def pixel_rates_hz(events, size_hw, duration_us):
    pixel = events["y"].astype(np.int64) * size_hw[1] + events["x"]
    return np.sort(np.bincount(pixel, minlength=size_hw[0] * size_hw[1]) / duration_us * 1e6)[::-1]


def plot_ranked(axis, rates, color, label):
    fired = rates[rates > 0]
    axis.loglog((1 + np.arange(len(fired))) / len(rates), fired, color=color, lw=2, label=label)


def plot_crop(axis, events, size_hw, title):
    """The middle 160 x 120 pixels over half a second; red is ON."""
    top, left = (size_hw[0] - 120) // 2, (size_hw[1] - 160) // 2
    x, y = events["x"].astype(int) - left, events["y"].astype(int) - top
    near = (x >= 0) & (x < 160) & (y >= 0) & (y < 120) & (events["t"] < events["t"][0] + 500_000)
    image = np.zeros((120, 160))
    image[y[near], x[near]] = np.where(events["p"][near] == 1, 1, -1)
    axis.imshow(image, cmap="coolwarm", vmin=-1.4, vmax=1.4, interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, default=ROOT / "tests" / "recordings")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.6), width_ratios=(1.25, 1.0, 1.05, 1.05), layout="constrained")
    cameras = {}
    for row, (name, (title, params)) in zip(axes, CAMERAS.items(), strict=True):
        recording = DatFile(options.recordings / name / f"{name}_td.dat")
        size_hw, duration_us = recording.size_hw, recording.last_us - recording.first_us
        real = recording.decode()
        ours = static_noise(params, size_hw, duration_us, seed=options.seed)
        found = {
            "real": noise_statistics(real, size_hw, duration_us),
            "simulated": noise_statistics(ours, size_hw, duration_us),
        }
        cameras[name] = {**found, "params": asdict(params), "size_hw": size_hw, "duration_us": duration_us}
        plot_ranked(row[0], pixel_rates_hz(real, size_hw, duration_us), REAL, "real")
        plot_ranked(row[0], pixel_rates_hz(ours, size_hw, duration_us), OURS, "simulated")
        row[0].set(title=title, xlabel="share of the array, most active first", ylabel="events per second of a pixel")
        row[0].grid(alpha=0.3)
        row[0].legend()
        counts = np.arange(10)
        for shift, color, key in ((-0.2, REAL, "real"), (0.2, OURS, "simulated")):
            row[1].bar(counts + shift, found[key]["pixels_by_count"], 0.4, color=color, label=key)
        row[1].set(yscale="log", xlabel="events of a pixel", ylabel="share of the pixels", xticks=counts)
        row[1].set_title(
            "\n".join(
                f"{key}: {s['rate_hz_per_pixel']:.3f} ev/s/px, {s['silent_share']:.1%} silent, {s['on_share']:.0%} ON"
                for key, s in found.items()
            ),
            fontsize=8,
        )
        plot_crop(row[2], real, size_hw, "real, middle 160 x 120 px, 0.5 s")
        plot_crop(row[3], ours, size_hw, "simulated")
    image_path = ROOT / "docs" / "images" / "noise_calibration.png"
    image_path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image_path, dpi=90)
    record = {**stamp(command=this_command(), seed=options.seed), "cameras": cameras}
    write_result("noise_calibration", record)
    print(
        json.dumps(
            {name: {key: camera[key] for key in ("real", "simulated")} for name, camera in cameras.items()}, indent=1
        )
    )


if __name__ == "__main__":
    main()
