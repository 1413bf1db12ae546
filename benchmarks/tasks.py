"""Score a network of three tasks: boxes against those of another network, 3D boxes, pose, and which part is at fault.

    python benchmarks/tasks.py --data data/roads --weights small-one-step-3d-pose --boxes_alone small-one-step

An oracle replaces one part of the detections whose 2D boxes are right (IoU of at least 0.5) by the truth and scores
again: what the score gains is what that part costs. Pose is also scored with joints where they are regressed, not moved
to peaks of heat, and 3D boxes where each stands by its own depth, and on the ground without the camera's height: voted
by every frame for itself, or by all labeled frames of the recording so far. Writes ``results/tasks.json``, or with
``--name`` another file.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.boxes3d import centers
from spiking_centernet.calibration import Calibration, HeightVotes
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.box3d_errors import MATCH_IOU, matched_errors
from spiking_centernet.evaluation.center_distance import Score3D, evaluate_boxes3d
from spiking_centernet.evaluation.metrics import FrameKey
from spiking_centernet.evaluation.pose_scores import PoseScore, evaluate_pose
from spiking_centernet.evaluation.prediction import Predictions, predict
from spiking_centernet.joint_sets import JOINT_SETS
from spiking_centernet.model.heads import joint_maps
from spiking_centernet.model.heads.ground import on_ground
from spiking_centernet.model.weights import sha256
from spiking_centernet.structures import Boxes, Detections

PROTOCOL = "prophesee"
TALL_PX = 40
"""Pose is also scored on people of at least this height in the picture."""

HISTORY_US = 1_000_000
"""Whether a person comes nearer is judged from where it was up to this long ago."""

LEAST_PAIRS = 3
"""Which side is which is told of people with as many pairs of labeled joints."""

Oracle = Callable[[np.ndarray, np.ndarray, Calibration], np.ndarray]


def with_depth(found: np.ndarray, true: np.ndarray, camera: Calibration) -> np.ndarray:
    """Return 3D boxes [N, 7] at their own place in the picture and the true depth."""
    return _placed(found, camera.project(centers(found)), camera.to_camera(centers(true))[:, 2], camera)


def with_center(found: np.ndarray, true: np.ndarray, camera: Calibration) -> np.ndarray:
    """Return 3D boxes [N, 7] at the true place in the picture and their own depth."""
    return _placed(found, camera.project(centers(true)), camera.to_camera(centers(found))[:, 2], camera)


def with_dimensions(found: np.ndarray, true: np.ndarray, camera: Calibration) -> np.ndarray:
    """Return 3D boxes [N, 7] of the true height, width and length around their own middle."""
    bottom = centers(found) + np.array([0.0, 0.5, 0.0]) * true[:, 3:4]
    return np.concatenate([bottom, true[:, 3:6], found[:, 6:]], axis=1)


def with_yaw(found: np.ndarray, true: np.ndarray, camera: Calibration) -> np.ndarray:
    """Return 3D boxes [N, 7] of the true heading."""
    return np.concatenate([found[:, :6], true[:, 6:]], axis=1)


def with_all(found: np.ndarray, true: np.ndarray, camera: Calibration) -> np.ndarray:
    """Return the true 3D boxes [N, 7]: what is left is what the 2D boxes miss."""
    return true


ORACLES: dict[str, Oracle] = {
    "depth": with_depth, "center": with_center, "dimensions": with_dimensions, "yaw": with_yaw, "all": with_all,
}  # fmt: skip


def _placed(box3d: np.ndarray, uv: np.ndarray, depth: np.ndarray, camera: Calibration) -> np.ndarray:
    bottom = camera.unproject(uv, depth) + np.array([0.0, 0.5, 0.0]) * box3d[:, 3:4]
    return np.concatenate([bottom, box3d[:, 3:]], axis=1)


def matches(boxes: Boxes, found: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections [N] have which true boxes [N], by falling score, classes apart, each box once."""
    overlap = iou_matrix(found.xyxy, boxes.xyxy) * (found.labels[:, None] == boxes.labels[None])
    pairs = []
    for k in np.argsort(-found.scores, kind="stable"):
        if len(boxes) and overlap[k].max() >= MATCH_IOU:
            best = int(overlap[k].argmax())
            overlap[:, best] = -1
            pairs.append((int(k), best))
    mine, real = np.array(pairs, int).reshape(-1, 2).T
    return mine, real


def with_true_boxes3d(
    predictions: Predictions, cameras: Mapping[FrameKey, Calibration | None], oracle: Oracle
) -> dict[FrameKey, Detections]:
    """Return the detections with one part of their 3D boxes from the truth."""
    replaced = {}
    for key, found in predictions.detections.items():
        boxes, camera = predictions.truth[key], cameras[key]
        mine, real = matches(boxes, found)
        known = np.isfinite(boxes.box3d[real]).all(axis=1) & np.isfinite(found.box3d[mine]).all(axis=1)
        mine, real = mine[known], real[known]
        box3d = found.box3d.copy()
        if camera is not None and len(mine):
            box3d[mine] = oracle(found.box3d[mine].astype(np.float64), boxes.box3d[real].astype(np.float64), camera)
        replaced[key] = replace(found, box3d=box3d)
    return replaced


def placed_on_ground(
    found: Mapping[FrameKey, Detections], cameras: Mapping[FrameKey, Calibration | None], size_hw: tuple[int, int]
) -> dict[FrameKey, Detections]:
    """Return detections of 3D boxes by their own depths, placed on the ground of every picture, in order of time."""
    placed = dict(found)
    for key, one in sorted(found.items(), key=lambda item: item[0]):
        camera = cameras[key]
        if camera is not None:
            placed[key] = replace(one, box3d=on_ground(one.box3d, one.xyxy, one.scores, camera, size_hw=size_hw))
    return placed


def without_heights(cameras: Mapping[FrameKey, Calibration | None]) -> dict[FrameKey, Calibration | None]:
    """Return cameras whose height is unknown."""
    return {key: None if camera is None else replace(camera, height_m=None) for key, camera in cameras.items()}


def with_votes_carried(cameras: Mapping[FrameKey, Calibration | None]) -> dict[FrameKey, Calibration | None]:
    """Return cameras of unknown height; those of a recording share the votes of its frames so far."""
    votes = {name: HeightVotes() for name, _ in cameras}
    return {
        key: None if camera is None else replace(camera, votes=votes[key[0]])
        for key, camera in without_heights(cameras).items()
    }


def in_true_place(found: np.ndarray, true: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return joints [J, 2] moved together so that those that are labeled lie right on average, their own pose kept."""
    return found + (true[labeled] - found[labeled]).mean(axis=0)


def on_true_sides(found: np.ndarray, true: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return joints [J, 2] of which a left and a right one are exchanged where they fit better so."""
    joints = found.copy()
    for pair in map(list, JOINT_SETS[len(found)].pairs):
        if labeled[pair].all():
            lengths = [np.linalg.norm(found[side] - true[pair], axis=1).sum() for side in (pair, pair[::-1])]
            joints[pair] = found[pair if lengths[0] <= lengths[1] else pair[::-1]]
    return joints


def as_labeled(found: np.ndarray, true: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return joints [J, 2] of which those that are labeled are true."""
    return np.where(labeled[:, None], true, found)


JOINT_ORACLES = {"place": in_true_place, "sides": on_true_sides, "all": as_labeled}


def with_true_joints(predictions: Predictions, part: str) -> dict[FrameKey, Detections]:
    """Return the detections with one part of their joints from the truth, a name of ``JOINT_ORACLES``."""
    replaced = {}
    for key, found in predictions.detections.items():
        boxes = predictions.truth[key]
        mine, real = matches(boxes, found)
        joints = found.joints.copy()
        for k, i in zip(mine.tolist(), real.tolist(), strict=True):
            labeled = boxes.joints[i, :, 2] > 0
            if not labeled.any() or found.labels[k] not in predictions.pose_labels:
                continue
            joints[k, :, :2] = JOINT_ORACLES[part](joints[k, :, :2], boxes.joints[i, :, :2], labeled)
        replaced[key] = replace(found, joints=joints)
    return replaced


def tall(truth: Mapping[FrameKey, Boxes]) -> dict[FrameKey, Boxes]:
    """Return the boxes without the joints of people of less than ``TALL_PX``, whom the score then ignores."""
    result = {}
    for key, boxes in truth.items():
        joints = boxes.joints.copy()
        joints[boxes.xyxy[:, 3] - boxes.xyxy[:, 1] < TALL_PX, :, 2] = 0
        result[key] = replace(boxes, joints=joints)
    return result


def side(joints: np.ndarray, pairs: list[list[int]]) -> float:
    """Return whether joints [J, 2] have their left further right in the picture (1), as a person has who faces us."""
    first = JOINT_SETS[len(joints)].names[pairs[0][0]]
    apart = sum(joints[b, 0] - joints[a, 0] for a, b in pairs)
    return float(np.sign(apart if first.startswith("right") else -apart))


def facing(box3d: np.ndarray) -> float:
    """Return whether a 3D box [7] is headed towards the camera (1) or away from it (-1)."""
    return float(np.sign(-np.cos(box3d[6]) * box3d[0] + np.sin(box3d[6]) * box3d[2]))


def nearing(truth: Mapping[FrameKey, Boxes], labels: Container[int]) -> dict[tuple[str, int, int], float]:
    """Return by recording, track and timestamp whether people with a history come nearer (1) or not (-1).

    Args:
        truth: the boxes of every labeled frame.
        labels: of the classes that are people.
    """
    tracks: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for (name, time), boxes in sorted(truth.items(), key=lambda item: item[0]):
        for i in np.flatnonzero(np.isfinite(boxes.box3d).all(axis=1)):
            if boxes.labels[i] in labels:
                distance = float(np.hypot(boxes.box3d[i, 0], boxes.box3d[i, 2]))
                tracks[name, int(boxes.track_ids[i])].append((time, distance))
    comes = {}
    for track, seen in tracks.items():
        for time, distance in seen:
            before = [far for then, far in seen if time - HISTORY_US <= then < time]
            if before:
                comes[*track, time] = float(np.sign(before[0] - distance))
    return comes


def sides(predictions: Predictions, min_score: float) -> dict[str, float | int | None]:
    """Return of how many found tall people the sides are told rightly, by their joints and by other things.

    Those are the heading of the found 3D box, the true one, and whether the person came nearer within ``HISTORY_US``,
    by its true distances: for a standing camera that is the heading, for one that moves it is not.
    """
    told: dict[str, list[bool]] = {"joints": [], "heading": [], "true_heading": [], "nearing": []}
    comes = nearing(predictions.truth, predictions.pose_labels)
    for key, found in predictions.detections.items():
        boxes = predictions.truth[key]
        for k, i in zip(*matches(boxes, found), strict=True):
            true, box3d = boxes.joints[i], (boxes.box3d[i].astype(np.float64), found.box3d[k].astype(np.float64))
            if found.scores[k] < min_score or boxes.xyxy[i, 3] - boxes.xyxy[i, 1] < TALL_PX or not len(true):
                continue
            pairs = [pair for pair in map(list, JOINT_SETS[len(true)].pairs) if (true[pair, 2] > 0).all()]
            if len(pairs) < LEAST_PAIRS or not np.isfinite(box3d).all():
                continue
            right = side(true[:, :2], pairs)
            told["joints"].append(side(found.joints[k, :, :2], pairs) == right)
            told["heading"].append(facing(box3d[1]) == right)
            told["true_heading"].append(facing(box3d[0]) == right)
            near = comes.get((key[0], int(boxes.track_ids[i]), key[1]))
            if near is not None:
                told["nearing"].append(near == right)
    shares = {name: float(np.mean(one)) if one else None for name, one in told.items()}
    return {"people": len(told["joints"]), "with_history": len(told["nearing"]), **shares}


def rows3d(score: Score3D) -> dict:
    """Return the score's numbers as JSON."""
    return {**score.rows(), "num_truth": {c.name: c.num_truth for c in score.classes}}


def pose_rows(score: PoseScore) -> dict:
    """Return the score's numbers as JSON."""
    return {**score.rows(), "num_people": score.num_people, "num_matched": score.num_matched}


def main() -> None:
    """Score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", default="small-one-step-3d-pose")
    parser.add_argument("--boxes_alone", default="small-one-step", help="weights of the same network with boxes alone")
    parser.add_argument("--name", default="tasks", help="of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = scn.load(arguments.weights)
    card = report.score(model, arguments.data, split=arguments.split, protocols=(PROTOCOL,))
    # Its boxes are averaged as those of the other network, so that their AP compare.
    alike = scn.build(weights=arguments.boxes_alone, **{"head.averaging": model.config.head.averaging}).eval()
    alone = report.score(alike, arguments.data, split=arguments.split, protocols=(PROTOCOL,)).scores[PROTOCOL]
    predictions, score = card.predictions, card.scores[PROTOCOL]
    objects = {recording.name: recording.objects for recording in card.dataset.recordings}
    cameras = {
        key: None if objects[key[0]] is None else objects[key[0]].calibration(key[1]) for key in predictions.truth
    }
    names, threshold = predictions.class_names, model.config.deployment.score_threshold
    free = scn.build(weights=arguments.weights, **{"head.placing": "free"}).eval()
    with mock.patch.multiple(joint_maps, MIN_JOINT_SCORE=2.0, MIN_ORDERED_SCORE=2.0):  # no peak is as high
        regressed = predict(free, card.dataset, batch_size=8).detections
    placings = {"free": regressed} | {
        name: placed_on_ground(regressed, unknown, predictions.size_hw)
        for name, unknown in (("voted", without_heights(cameras)), ("carried", with_votes_carried(cameras)))
    }
    oracles3d = {name: with_true_boxes3d(predictions, cameras, oracle) for name, oracle in ORACLES.items()}
    rows_of_boxes3d = {
        name: {
            **rows3d(evaluate_boxes3d(predictions.truth, found, class_names=names)),
            "errors": [one.to_dict() for one in matched_errors(
                predictions.truth, found, cameras, class_names=names, min_score=threshold
            )],
        }
        for name, found in (placings | oracles3d).items()
    }  # fmt: skip
    people = {"all": predictions.truth, "tall": tall(predictions.truth)}
    pose = {}
    found = {
        "score": predictions.detections, "regressed": regressed,
        **{part: with_true_joints(predictions, part) for part in JOINT_ORACLES},
    }  # fmt: skip
    for who, truth in people.items():
        rows = {
            name: pose_rows(evaluate_pose(truth, one, label=predictions.pose_labels)) for name, one in found.items()
        }
        pose[who] = {"oracles": {part: rows.pop(part) for part in JOINT_ORACLES}, **rows}
    result = {
        **stamp(command=this_command(), seed=None),
        "data": arguments.data, "split": arguments.split, "protocol": PROTOCOL, "frames": len(predictions.truth),
        "weights": arguments.weights, "sha256": sha256(arguments.weights), "firing_rate": card.rates.overall(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "boxes": {
            "ap": score.ap, "ap50": score.ap50,
            "alone": {"weights": arguments.boxes_alone, "ap": alone.ap, "ap50": alone.ap50},
        },
        "detect3d": {
            "score": rows3d(score.tasks["detect3d"]),  # pyright: ignore[reportArgumentType]
            "errors": [one.to_dict() for one in card.box3d_errors], "min_score": threshold,
            "placing": model.config.head.placing, "placings": {name: rows_of_boxes3d[name] for name in placings},
            "oracles": {name: rows_of_boxes3d[name] for name in oracles3d},
        },
        "pose": {**pose, "tall_px": TALL_PX, "sides": sides(predictions, threshold)},
    }  # fmt: skip
    print(write_result(arguments.name, result))


if __name__ == "__main__":
    main()
