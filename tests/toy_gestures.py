"""DVS128 Gesture's own files with five motions of a flashing bar, two of which differ in the order of time alone.

A bar flashes once a step at one of fifteen places: ON and OFF events all over it, so that a step does not show where
it came from. Turning clockwise and turning counter-clockwise visit the same fifteen angles in opposite order: their
accumulated pictures are the same, and a network that ignores order cannot tell them apart.
"""

import struct
from pathlib import Path

import numpy as np

from spiking_centernet.data.class_layouts import GESTURE_HW, GESTURE_WINDOW_US, GESTURES
from spiking_centernet.structures import EVENT_DTYPE

NUM_STEPS = 15
STEP_US = GESTURE_WINDOW_US // NUM_STEPS
CLASSES = (
    "right_arm_clockwise", "right_arm_counter_clockwise", "left_hand_wave", "right_hand_wave", "hand_clapping"
)  # fmt: skip
TURNS = CLASSES[:2]
EVENTS_A_STEP = 400
START_US = 80_000_000
"""Where the clock of the real files starts, about."""


def places(label: str, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Return middle x, middle y and angle of the bar at every step."""
    start = rng.uniform(0, 2 * np.pi)
    turned = [start + 2 * np.pi * k / NUM_STEPS for k in range(NUM_STEPS)]
    x, y = rng.uniform(52, 76, 2)
    if label in TURNS:
        # The bar is an arm from the middle outwards: its angle counts through the whole circle.
        turned = turned if label == TURNS[0] else turned[:1] + turned[:0:-1]
        return [(x + 22 * np.cos(angle), y + 22 * np.sin(angle), angle) for angle in turned]
    swing = 12 * np.sin(np.array(turned) * 3)
    if label == "hand_clapping":
        return [(x, y + 14 * np.sign(value), 0.0) for value in swing]
    side = -1 if label == "left_hand_wave" else 1
    return [(64 + side * 34 + value, y, np.pi / 2) for value in swing]


def gesture(label: str, rng: np.random.Generator, start_us: int) -> np.ndarray:
    """Return the events of one gesture of 1.5 s, EVENT_DTYPE, sorted by time."""
    parts = []
    for step, (x, y, angle) in enumerate(places(label, rng)):
        along, across = rng.uniform(-14, 14, EVENTS_A_STEP), rng.uniform(-3, 3, EVENTS_A_STEP)
        part = np.zeros(EVENTS_A_STEP, EVENT_DTYPE)
        columns = x + along * np.cos(angle) - across * np.sin(angle)
        rows = y + along * np.sin(angle) + across * np.cos(angle)
        part["x"], part["y"] = columns.clip(0, GESTURE_HW[1] - 1), rows.clip(0, GESTURE_HW[0] - 1)
        part["t"] = start_us + step * STEP_US + rng.integers(0, STEP_US, EVENTS_A_STEP)
        part["p"] = np.arange(EVENTS_A_STEP) % 2
        parts.append(part)
    events = np.concatenate(parts)
    return events[np.argsort(events["t"], kind="stable")]


def write_aedat31(path: Path, events: np.ndarray, *, per_packet: int = 5000) -> None:
    """Write events as AEDAT 3.1: packets of polarity events, little-endian."""
    with path.open("wb") as file:
        file.write(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n")
        for start in range(0, len(events), per_packet):
            part = events[start : start + per_packet]
            file.write(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)))
            words = np.zeros((len(part), 2), "<u4")
            words[:, 0] = 1 | part["p"].astype(np.uint32) << 1 | part["y"].astype(np.uint32) << 2
            words[:, 0] |= part["x"].astype(np.uint32) << 17
            words[:, 1] = part["t"]
            file.write(words.tobytes())


def write_recording(folder: Path, name: str, seed: int, repeats: int) -> None:
    """Write one user's recording: every class so many times in random order, half a second apart."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.repeat(np.arange(len(CLASSES)), repeats))
    lines, parts = ["class,startTime_usec,endTime_usec"], []
    for k, number in enumerate(order.tolist()):
        start_us = START_US + k * (GESTURE_WINDOW_US + 500_000)
        parts.append(gesture(CLASSES[number], rng, start_us))
        lines.append(f"{GESTURES.index(CLASSES[number]) + 1},{start_us},{start_us + GESTURE_WINDOW_US}")
    write_aedat31(folder / f"{name}.aedat", np.concatenate(parts))
    (folder / f"{name}_labels.csv").write_text("\n".join(lines) + "\n")


def write_folder(root: Path, *, users=(1, 2, 20, 24), repeats: int = 2) -> Path:
    """Write users of DVS128 Gesture: 1 to 19 train, 20 to 23 are for validation, 24 and later for the test."""
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    names = {user: f"user{user:02d}_led" for user in users}
    for user, name in names.items():
        write_recording(folder, name, seed=user, repeats=repeats)
    for split, chosen in (("train", [u for u in users if u < 24]), ("test", [u for u in users if u >= 24])):
        (folder / f"trials_to_{split}.txt").write_text("".join(f"{names[user]}.aedat\n" for user in chosen))
    return root
