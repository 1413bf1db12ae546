"""What the bundled weights find in real recordings without boxes: two of static noise, one of a person close by."""

import argparse
from pathlib import Path

from stamp import stamp, this_command, write_result

import spiking_centernet as scn

NAMES = {
    "imx636_static_noise": "nothing moves",
    "dvxplorer_static_noise": "nothing moves",
    "gen31_person_2s": "a person close to the camera fills the frame in the second half",
}
MODELS = ("small", "nano")
EVERY_US = 100_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, default=Path(__file__).parents[1] / "tests" / "recordings")
    folder = parser.parse_args().recordings
    models = {name: scn.load(name) for name in MODELS}
    rows = []
    for name, shows in NAMES.items():
        recording = scn.open(folder / name / f"{name}_td.dat")
        height, width = recording.size_hw
        for weights, model in models.items():
            found = list(scn.stream(model, recording, every_us=EVERY_US))
            boxes = {c: sum(int((d.labels == k).sum()) for d in found) for k, c in enumerate(model.config.classes)}
            rows.append(
                {"recording": name, "shows": shows, "size": f"{width} x {height}", "model": weights,
                 "instants": len(found), "boxes": boxes}
            )  # fmt: skip
            print(rows[-1])
    head = {**stamp(command=this_command(), seed=None), "every_us": EVERY_US}
    scores = {name: model.config.deployment.score_threshold for name, model in models.items()}
    write_result("real_recordings", {**head, "min_score": scores, "recordings": rows})


if __name__ == "__main__":
    main()
