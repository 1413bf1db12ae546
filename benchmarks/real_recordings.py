"""What the shipped weights find in real recordings without boxes: two of static noise, one of a person close by."""

import argparse
from pathlib import Path

from stamp import stamp, this_command, write_result

import spiking_centernet as scn

NAMES = {
    "imx636_static_noise": "nothing moves",
    "dvxplorer_static_noise": "nothing moves",
    "gen31_person_2s": "a person close to the camera fills the frame in the second half",
}
EVERY_US = 100_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, default=Path(__file__).parents[2] / "shared" / "recordings")
    folder = parser.parse_args().recordings
    model = scn.load("nano")
    rows = []
    for name, shows in NAMES.items():
        recording = scn.open(folder / name / f"{name}_td.dat")
        found = list(scn.stream(model, recording, every_us=EVERY_US))
        height, width = recording.size_hw
        rows.append(
            {
                "recording": name,
                "shows": shows,
                "size": f"{width} x {height}",
                "instants": len(found),
                "boxes": {
                    label: sum(int((d.labels == k).sum()) for d in found)
                    for k, label in enumerate(model.config.classes)
                },
            }
        )
        print(rows[-1])
    threshold = model.config.score_threshold
    write_result(
        "real_recordings",
        {**stamp(command=this_command(), seed=None), "every_us": EVERY_US, "min_score": threshold, "recordings": rows},
    )


if __name__ == "__main__":
    main()
