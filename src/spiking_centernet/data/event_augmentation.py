"""Augmentations that change the events of a window, and with them its boxes, before they are binned."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from spiking_centernet.data.augmentation import Augmentation, clip_boxes
from spiking_centernet.data.corruptions import CORRUPTIONS, Fault, Scope, add_noise, drop_events
from spiking_centernet.structures import Boxes, concatenate, select

MARGIN = 0.1
"""What belongs to an object that is pasted: its box, this share of its sides wider each way, since it moved."""

MOST_PASTED = 3
"""Objects pasted into a window at most."""

COVERED = 0.5
"""Share of a box behind a pasted object from which on it is no label any more."""

WORST_FAULT = 3
"""Highest severity of a corruption in training; beyond, little is left to learn from."""


@dataclass(frozen=True)
class Scene:
    """The events of a window, EVENT_DTYPE sorted by time, and the boxes at its end."""

    events: np.ndarray
    boxes: Boxes


def augment_events(
    scene: Scene, settings: Augmentation, scope: Scope, *, seeds: list[int], another: Callable[[int], Scene | None]
) -> Scene:
    """Change a window at random; the same seeds give the same.

    Another window is mixed in or objects are cut out of it and pasted; the view is narrowed to a part; the past is
    emptied; polarities are exchanged or merged; events are lost, noise is added, a corruption applied. All in this
    order, which is that of the world, the scene and the sensor.

    Args:
        scene: of the scope's window; not changed.
        settings: probabilities and ranges.
        scope: window, sensor and the chance of which events.
        seeds: decide whether and how much.
        another: returns another window as if it ended with this one, chosen by the number in [0, 2**31) that it is
            given; None where there is none of this size.
    """
    rng = np.random.default_rng([*seeds, 3])
    # All draws are made every time, so that one setting does not shift another's random numbers.
    mix_draw, paste_draw, isolate_draw, past_draw, filled_draw, swap_draw, merge_draw, fault_draw = rng.random(8)
    number, fault, severity = int(rng.integers(1 << 31)), int(rng.integers(1 << 31)), int(rng.integers(WORST_FAULT))
    if mix_draw < settings.mix:
        scene = _mixed(scene, another(number))
    if paste_draw < settings.paste:
        scene = _pasted(scene, another(number + 1), scope.size_hw, rng)
    if isolate_draw < settings.isolate:
        scene = _isolated(scene, scope.size_hw, settings, rng)
    events = scene.events
    if past_draw < settings.empty_past:
        low, high = settings.filled_range
        filled_us = round((scope.stop_us - scope.start_us) * (low + (high - low) * filled_draw))
        events = events[events["t"] >= scope.stop_us - filled_us]
    if swap_draw < settings.swap_polarity:
        events = _with_polarity(events, 1 - events["p"])
    if merge_draw < settings.merge_polarity:
        events = _with_polarity(events, np.ones_like(events["p"]))
    events = _lossy_and_noisy(events, np.random.default_rng([*seeds, 2]), settings, scope)
    if fault_draw < settings.fault:
        chosen = Fault(sorted(CORRUPTIONS)[fault % len(CORRUPTIONS)], 1 + severity)
        events = CORRUPTIONS[chosen.name].apply(events, chosen.level, scope)
    return Scene(events, scene.boxes)


def stretch(events: np.ndarray, factor: float, stop_us: int) -> np.ndarray:
    """Move the times of events away from ``stop_us`` by a factor; an event before it stays before it.

    Args:
        events: EVENT_DTYPE sorted by time, all before ``stop_us``; not changed.
        factor: above 1 the world moves more slowly than it did.
        stop_us: first microsecond after the window.
    """
    moved = events.copy()
    moved["t"] = stop_us - 1 - np.floor((stop_us - 1 - events["t"]) * factor).astype(np.int64)
    return moved


def _lossy_and_noisy(events: np.ndarray, rng: np.random.Generator, settings: Augmentation, scope: Scope) -> np.ndarray:
    noise_draw, rate_draw, drop_draw, share_draw = rng.random(4)
    if drop_draw < settings.drop:
        low, high = settings.drop_range
        events = drop_events(events, low + (high - low) * share_draw, scope)
    if noise_draw < settings.noise:
        low, high = np.log(settings.noise_range_hz)
        events = add_noise(events, float(np.exp(low + (high - low) * rate_draw)), scope)
    return events


def _with_polarity(events: np.ndarray, p: np.ndarray) -> np.ndarray:
    changed = events.copy()
    changed["p"] = p
    return changed


def _joined(*parts: np.ndarray) -> np.ndarray:
    events = np.concatenate(parts)
    return events[np.argsort(events["t"], kind="stable")]


def _of_other_camera(boxes: Boxes) -> Boxes:
    """Return boxes of another window, whose meters are those of another camera: unknown here."""
    return replace(boxes, box3d=np.full_like(boxes.box3d, np.nan))


def _mixed(scene: Scene, other: Scene | None) -> Scene:
    """Lay two windows over each other, as if both were of glass."""
    if other is None:
        return scene
    return Scene(_joined(scene.events, other.events), concatenate([scene.boxes, _of_other_camera(other.boxes)]))


def _pasted(scene: Scene, other: Scene | None, size_hw: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Put objects of another window before this one, each at a place drawn inside the frame."""
    if other is None or not len(other.boxes):
        return scene
    height, width = size_hw
    for i in rng.permutation(len(other.boxes))[:MOST_PASTED]:
        left, top, right, bottom = (float(side) for side in other.boxes.xyxy[i])
        dx = int(rng.integers(-int(left), max(-int(left), width - int(np.ceil(right))) + 1))
        dy = int(rng.integers(-int(top), max(-int(top), height - int(np.ceil(bottom))) + 1))
        wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
        patch = np.array([left - wide, top - high, right + wide, bottom + high])
        cut = other.events[_inside(other.events, patch)]
        x, y = cut["x"].astype(np.int64) + dx, cut["y"].astype(np.int64) + dy
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        cut = cut[seen]
        cut["x"], cut["y"] = x[seen], y[seen]
        shift = np.array([dx, dy, dx, dy], np.float32)
        behind = scene.events[~_inside(scene.events, patch + shift)]
        box = other.boxes.xyxy[i : i + 1] + shift
        pasted = _of_other_camera(select(other.boxes, np.array([i])))
        moved = pasted.joints + np.array([dx, dy, 0], np.float32)
        pasted = replace(pasted, xyxy=box, joints=moved)
        scene = Scene(_joined(behind, cut), concatenate([_uncovered(scene.boxes, box[0]), pasted]))
    return scene


def _isolated(scene: Scene, size_hw: tuple[int, int], settings: Augmentation, rng: np.random.Generator) -> Scene:
    """Leave only a part of the frame; the rest of it is empty.

    Not every view is around an object: else a part that is full of events would mean an object.
    """
    height, width = size_hw
    which, wide, high, right, down, around = rng.random(6)
    if len(scene.boxes) and around < settings.isolate_around:
        left, top, far, low = scene.boxes.xyxy[int(which * len(scene.boxes))].astype(np.float64)
        least, most = settings.isolate_range
        view_w, view_h = (
            (least + (most - least) * draw) * side for draw, side in ((wide, far - left), (high, low - top))
        )
        start = [far - view_w + right * (view_w - far + left), low - view_h + down * (view_h - low + top)]
    else:
        view_w, view_h = (0.1 + 0.6 * wide) * width, (0.1 + 0.6 * high) * height
        start = [right * (width - view_w), down * (height - view_h)]
    view = np.array([*start, start[0] + view_w, start[1] + view_h])
    boxes = clip_boxes(
        scene.boxes, scene.boxes.xyxy.astype(np.float64), view, min_left=settings.min_left,
        min_side_px=settings.min_side_px,
    )  # fmt: skip
    return Scene(scene.events[_inside(scene.events, view)], boxes)


def _inside(events: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
    """Return whether the center of an event's pixel lies in a box, bool [N]."""
    x, y = events["x"] + 0.5, events["y"] + 0.5
    return (x >= xyxy[0]) & (x < xyxy[2]) & (y >= xyxy[1]) & (y < xyxy[3])


def _uncovered(boxes: Boxes, front: np.ndarray) -> Boxes:
    """Return the boxes of which less than ``COVERED`` lies behind the box ``front`` [4]."""
    low, high = np.maximum(boxes.xyxy[:, :2], front[:2]), np.minimum(boxes.xyxy[:, 2:], front[2:])
    hidden = (high - low).clip(min=0).prod(axis=1)
    keep = hidden < COVERED * (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1)
    return select(boxes, keep)
