"""Convert the labels of a recording to COCO, YOLO and MOT, and say what each cannot hold.

python examples/convert_labels.py drive_bbox.npy out --size 304x240
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from spiking_centernet.cli.values import read_size
from spiking_centernet.data.convert import convert_file
from spiking_centernet.data.io import sample


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every format."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("labels", nargs="?", default=sample("sample-real").with_name("icns_roadside_cars_bbox.npy"))
    parser.add_argument("out", nargs="?", type=Path, default=Path("labels"))
    parser.add_argument(
        "--size", type=read_size, help="WIDTHxHEIGHT; by default that of the recording beside the labels"
    )
    options = parser.parse_args(arguments)
    for name in ("labels.json", "labels.csv", "yolo"):
        done = convert_file(options.labels, options.out / name, size_hw=options.size)
        print(f"{done.path}: lost {', '.join(done.lost) or 'nothing'}")


if __name__ == "__main__":
    main()
