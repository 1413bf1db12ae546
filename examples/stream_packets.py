"""Feed a detector packet by packet, as a camera's driver would, and act on every answer.

    python examples/stream_packets.py

With ``--mode stateful`` each step of 20 ms is computed once, and an answer may be had after any.
"""

import argparse
from collections.abc import Sequence

import numpy as np

import spiking_centernet as scn
from spiking_centernet.inference import Stream


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", nargs="?", default="sample")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--mode", default="windowed", choices=["windowed", "stateful"])
    parser.add_argument("--packet_events", type=int, default=500)
    options = parser.parse_args(arguments)
    recording = scn.open(options.recording)
    events = recording.read()
    flow = Stream(scn.load(options.model), recording.size_hw, mode=options.mode)
    for packet in np.array_split(events, max(1, len(events) // options.packet_events)):
        for found in flow.push(packet):
            print(f"{found.t_us * 1e-3:.0f} ms: {len(found)} boxes, {found.lag_ms:.1f} ms of events waited")
    for found in flow.flush():
        print(f"{found.t_us * 1e-3:.0f} ms: {len(found)} boxes, the last")


if __name__ == "__main__":
    main()
