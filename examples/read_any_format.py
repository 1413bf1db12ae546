"""Open recordings of any format, say what they are, and read their first tenth of a second.

python examples/read_any_format.py drive.raw flight.aedat4 digit.bin --size 34x34
"""

import argparse
from collections.abc import Sequence

import spiking_centernet as scn
from spiking_centernet.cli.values import read_size


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every recording."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recordings", nargs="*", default=["sample"])
    parser.add_argument("--size", type=read_size, help="WIDTHxHEIGHT, for formats that do not say")
    options = parser.parse_args(arguments)
    for path in options.recordings:
        recording = scn.open(path, size_hw=options.size)
        height, width = recording.size_hw
        first = recording.read(recording.start_us, recording.start_us + 100_000)
        on = first["p"].mean() if len(first) else 0
        print(f"{recording.path.name}: {recording.kind}, {width} x {height}, {recording.num_events} events in")
        print(f"  {(recording.stop_us - recording.start_us) * 1e-6:.3f} s; first 100 ms: {len(first)}, {on:.0%} ON")


if __name__ == "__main__":
    main()
