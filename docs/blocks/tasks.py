"""The blocks about 3D boxes, pose, pictures and classification."""

from typing import Any

from blocks.common import Results, number, origin, table
from spiking_centernet.model.weights import config_of, sha256

POSE_WORKS = 0.3
"""Pose is done from this OKS AP of tall people on: with less, most of them have joints on the wrong side."""

KEEPS_UP = 0.9
"""A spiking network keeps up from this share of its ANN counterpart's score on."""


def _measured(results: Results) -> dict[str, Any]:
    """Return the scores of the bundled network of three tasks."""
    r = results["tasks"]
    if r["sha256"] != sha256(r["weights"]):
        raise ValueError(f"results/tasks.json was measured with other weights {r['weights']} than the bundled ones")
    return r


def tasks_answer(results: Results) -> str:
    """Whether the architecture can do 3D boxes and pose, in one paragraph."""
    r = _measured(results)
    voted, carried = r["detect3d"]["placings"]["voted"], r["detect3d"]["placings"]["carried"]
    boxes, box3d, pose = r["boxes"], r["detect3d"]["score"], r["pose"]["tall"]["score"]
    car, person = r["detect3d"]["errors"]
    verdict = "all three" if pose["ap"] >= POSE_WORKS else "boxes and 3D boxes, and pose not yet"
    return (
        f"**Can the architecture do 3D boxes and pose?** On simulated roads, one spiking network does {verdict}: "
        f"`{r['weights']}` has AP {number(boxes['ap'])} for boxes; `{boxes['alone']['weights']}`, from which it "
        f"learned on, has {number(boxes['alone']['ap'])} with boxes alone. Found cars are off by "
        f"{car['range']:.0%} of their distance and {car['yaw_axis_deg']:.0f} degrees of heading, front and back alike, "
        f"found pedestrians by {person['range']:.0%}; center-distance AP is {number(box3d['ap'])}, all "
        "with the camera's height known. "
        f"Where it is not, it is {number(carried['ap'])} if the boxes of all frames so far vote on it (cars: "
        f"{carried['errors'][0]['range']:.0%} of the distance), {number(voted['ap'])} if those of each frame do (cars: "
        f"{voted['errors'][0]['range']:.0%}). Joints of found people are off by "
        f"{pose['mpjpe_px']:.1f} px; OKS AP of people of {r['pose']['tall_px']} px and more is {number(pose['ap'])}. "
        f"{origin(r)}"
    )


def tasks_boxes3d(results: Results) -> str:
    """3D boxes: AP by distance, errors, and what each part of the answer costs."""
    r = _measured(results)["detect3d"]
    score, oracles = r["score"], r["oracles"]
    rows = []
    for name, error in zip(score["num_truth"], r["errors"], strict=True):
        height, width, length = error["dims_m"]
        rows.append(
            (name, *(number(score[f"{name}_ap_{t}m"], 2) for t in ("0.5", "1", "2", "4")), f"{error['range']:.1%}",
             f"{error['size_prior']:.1%}", f"{error['constant']:.1%}",
             f"{error['yaw_deg']:.0f} ({error['yaw_axis_deg']:.0f})", f"{height:.2f} {width:.2f} {length:.2f}")
        )  # fmt: skip
    header = ("class", "AP 0.5 m", "1 m", "2 m", "4 m", "distance", "size prior", "constant", "heading, degrees",
              "h w l, m")  # fmt: skip
    names = {"depth": "depth", "center": "projected center", "dimensions": "dimensions", "yaw": "heading", "all": "all"}
    costs = [
        ("nothing", number(score["ap"]), *(number(score[f"{c}_ap_2m"]) for c in score["num_truth"])),
        *((text, number(oracles[key]["ap"]), *(number(oracles[key][f"{c}_ap_2m"]) for c in score["num_truth"]))
          for key, text in names.items()),
    ]  # fmt: skip
    placed = [
        (text, number(one["ap"]), *(number(one[f"{c}_ap_2m"]) for c in score["num_truth"]),
         *(f"{error['range']:.1%}" for error in one["errors"]))
        for text, one in (
            ("each at its own depth", r["placings"]["free"]),
            ("on one ground, as far below as the boxes say", r["placings"]["voted"]),
            ("on one ground, as far below as the boxes of all frames so far say", r["placings"]["carried"]),
            ("on one ground, the camera's height known", {**score, "errors": r["errors"]}),
        )
    ]  # fmt: skip
    placed_header = ("boxes stand", "mean AP", *(f"AP 2 m {c}" for c in score["num_truth"]),
                     *(f"distance, {c}" for c in score["num_truth"]))  # fmt: skip
    classes = " and ".join(f"{count} of class {name}" for name, count in score["num_truth"].items())
    return (
        f"{table(header, rows)}\n\nSimulated roads, split `{_measured(results)['split']}`: {classes} within range. AP "
        f"by distance on the ground; then median errors where the 2D box is right, at score {r['min_score']:g}: of the "
        "distance, of what needs no network (see below), of the heading (in brackets, front and back alike), and of "
        "height, width and length.\n\n"
        f"{table(placed_header, placed)}\n\nThe ground of simulated roads is a plane, and the camera's pitch is known "
        "to the digit; that of real roads is not. In the other tables the height is known.\n\n"
        f"{table(('taken from the truth', 'mean AP', *(f'AP 2 m {c}' for c in score['num_truth'])), costs)}\n\n"
        f"What each part of the answer costs: it is replaced by the truth where the 2D box is right. "
        f"{origin(_measured(results))}"
    )


def tasks_pose(results: Results) -> str:
    """Pose: OKS AP, PCK and errors, of all people and of tall ones, and with parts from the truth."""
    r = _measured(results)["pose"]
    rows = []
    for who, shown in (("all", "all"), ("tall", f"{r['tall_px']} px and more")):
        parts = {
            "nothing": r[who]["score"], "nothing, joints not moved to heat": r[who]["regressed"],
            "mean place of the joints": r[who]["oracles"]["place"], "left and right": r[who]["oracles"]["sides"],
            "all joints": r[who]["oracles"]["all"],
        }  # fmt: skip
        for text, s in parts.items():
            rows.append(
                (shown, text, number(s["ap"]), number(s["ap50"]), number(s["swapped_ap50"]), number(s["pck_0.1"], 2),
                 number(s["mpjpe_px"], 1), f"{s['num_matched']} of {s['num_people']}")
            )  # fmt: skip
    header = ("people", "from the truth", "OKS AP", "AP50", "AP50 swapped", "PCK 0.1", "px", "found")
    return f"{table(header, rows, words=2)}\n\nSimulated roads. {origin(_measured(results))}"


def tasks_sides(results: Results) -> str:
    """What tells the sides of tall people rightly, and how often."""
    r = _measured(results)["pose"]
    told, least = r["sides"], r["tall_px"]
    rows = [
        (text, f"{told[name]:.0%}", told[people])
        for name, text, people in (
            ("joints", "the network, by its votes", "people"),
            ("heading", "the heading of its 3D box", "people"),
            ("nearing", "whether the person came nearer within a second, by the true distances", "with_history"),
            ("true_heading", "the true heading: towards the camera or away", "people"),
        )
    ]
    header = ("the sides are told by", "right", "people")
    return (
        f"{table(header, rows)}\n\nFound people of {least} px and more, simulated roads. {origin(_measured(results))}"
    )


def tasks_longer(results: Results) -> str:
    """What it gains that all layers learn on for three tasks."""
    rows, origins = [], []
    for text, stem in (("maps alone", "small_integer_3d_pose_maps"), ("then all", "small_integer_3d_pose_longer")):
        r = results[f"{stem}_roads"]
        score = r["scores"]["prophesee"]
        pose, (car, person) = score["tasks"]["pose"], r["box3d_errors"]
        rows.append((
            text, number(score["ap"]), number(score["ap75"]), number(score["tasks"]["detect3d"]["primary"]),
            f"{car['range']:.1%}",
            f"{car['yaw_deg']:.0f} ({car['yaw_axis_deg']:.0f})", f"{person['range']:.1%}",
            f"{person['yaw_deg']:.0f} ({person['yaw_axis_deg']:.0f})", number(pose["ap"]), number(pose["swapped_ap"]),
            number(pose["mpjpe_px"], 1),
        ))  # fmt: skip
        origins.append(origin(r))
    header = ("layers that learned", "AP", "AP75", "center-distance AP", "cars: distance", "heading",
              "pedestrians: distance", "heading", "OKS AP", "OKS AP swapped", "joints, px")  # fmt: skip
    told = "Simulated roads, split `test`, every 3D box at its own depth; median errors as above."
    return f"{table(header, rows)}\n\n{told} {' '.join(origins)}"


def tasks_scenes(results: Results) -> str:
    """What it gains that all layers learn on from more scenes."""
    rows, files = [], {
        "800 scenes": results["tasks_longer"], "6,800 scenes": results["tasks_fourth"],
        "6,800 scenes, longer": results["tasks_fifth"], "in one step": results["tasks"],
    }  # fmt: skip
    for learned_from, r in files.items():
        boxes3d, (car, person) = r["detect3d"], r["detect3d"]["errors"]
        rows.append((
            learned_from, number(r["boxes"]["ap"]), number(boxes3d["score"]["ap"]),
            number(boxes3d["placings"]["carried"]["ap"]), number(boxes3d["placings"]["free"]["ap"]),
            f"{car['range']:.1%}", f"{car['yaw_deg']:.0f} ({car['yaw_axis_deg']:.0f})", f"{person['range']:.1%}",
            f"{person['yaw_deg']:.0f} ({person['yaw_axis_deg']:.0f})", number(r["pose"]["tall"]["score"]["ap"]),
            number(r["pose"]["tall"]["score"]["swapped_ap"]),
        ))  # fmt: skip
    header = ("learned from", "AP", "center-distance AP: height known", "voted by all frames so far", "own depth",
              "cars: distance", "heading", "pedestrians: distance", "heading", "OKS AP, tall people",
              "swapped")  # fmt: skip
    origins = " ".join(map(origin, files.values()))
    return f"{table(header, rows)}\n\nSimulated roads, split `test`; median errors as above. {origins}"


def frames_answer(results: Results) -> str:
    """Whether spiking networks on pictures keep up with their ANN counterpart, in one paragraph."""
    r = results["frames"]
    ann, spiking = r["rows"]["ANN"], [row for name, row in r["rows"].items() if name != "ANN"]
    verdict = "keeps up" if spiking[-1]["ap50"] >= KEEPS_UP * ann["ap50"] else "does not keep up"
    shares = ", ".join(f"{row['ap50'] / ann['ap50']:.0%} in {row['num_steps']}" for row in spiking)
    return (
        "**Does a spiking network on pictures keep up with its ANN counterpart in 1, 2 and 4 steps?** After the "
        f"{ann['steps']} training steps measured here it {verdict}: on gray pictures of SIMULATED roads the ANN "
        f"counterpart has AP50 {number(ann['ap50'])}, and of that the spiking network reaches {shares} time steps. "
        f"One seed. {origin(r)}{_frames_share(results)}"
    )


def _frames_share(results: Results) -> str:
    """Return what the bundled network on pictures reaches of its ANN counterpart; nothing where not measured."""
    try:
        row = results["ann_ratio"]["pairs"]["nano-frames"]
    except (FileNotFoundError, KeyError):
        return ""
    if row["snn"]["sha256"] != sha256("nano-frames"):
        raise ValueError("results/ann_ratio.json was measured with other weights than the bundled nano-frames")
    levels = config_of("nano-frames").neuron.levels
    ap = {kind: number(row[kind]["scores"]["ap"]) for kind in ("snn", "ann")}
    verdict = "keeps up" if row["share"]["ap"] >= KEEPS_UP else "does not keep up"
    return (
        f" **With neurons that are trained to give up to {levels} spikes a step, and run on 0 and 1 in {levels} steps, "
        f"it {verdict}**: the bundled `nano-frames` has AP {ap['snn']}, its ANN counterpart {ap['ann']}; that is "
        f"{row['share']['ap']:.0%}, at a firing rate of {row['snn']['firing_rate']:.1%}. Its training began from "
        f"the counterpart's weights; one seed. {origin(row)}"
    )


def frames_scores(results: Results) -> str:
    """AP, firing rate and time of training by neurons and time steps."""
    r = results["frames"]
    rows = [
        (name, number(row["ap"]), number(row["ap50"]), f"{row['rate']:.1%}", f"{row['train_cpu_s'] / 60:.1f}")
        for name, row in r["rows"].items()
    ]
    header = ("network", "AP", "AP50", "spikes, or outputs that are not zero", "CPU minutes of training")
    height, width = r["frame_hw"]
    budget = f"{r['rows']['ANN']['steps']} steps of {r['batch_size']} pictures each"
    return (
        f"{table(header, rows)}\n\nSimulated roads, gray pictures of {width} x {height} pixels, {budget}; scored on "
        f"{r['pictures']['test']} pictures with {r['boxes']} boxes of the split `{r['split']}`, protocol "
        f"`{r['protocol']}`. {origin(r)}"
    )


def ncars_answer(results: Results) -> str:
    """What the architecture does on N-CARS and DVS128 Gesture, in one paragraph."""
    r, toy = results["ncars"], results["toy_gestures"]
    name, row = next(iter(r["models"].items()))
    real = r["real"]
    shown = "" if real is None else (
        f" On {real['trials']} cut-outs of N-CARS itself, on which nothing was trained or chosen, it is right in "
        f"{real['accuracy']:.1%}: the stand-in does not carry over by itself."
        if real["accuracy"] < 0.8 * row["accuracy"]
        else f" On {real['trials']} cut-outs of N-CARS itself, on which nothing was trained or chosen, it is right in "
        f"{real['accuracy']:.1%}."
    )  # fmt: skip
    return (
        "**What does it do on N-CARS and DVS128 Gesture?** Neither data set comes with this package, so stand-ins were "
        f"measured: `{name}`, {row['parameters'] / 1e6:.2f} M parameters, is right in {row['accuracy']:.1%} of "
        f"{row['trials']} cut-outs of SIMULATED roads.{shown} On toy gestures, accuracy is "
        f"{toy['in_order']['accuracy']:.1%} of five motions. {origin(r)}"
    )


def ncars_scores(results: Results) -> str:
    """Accuracy on cut-outs of simulated roads, by where training started."""
    r = results["ncars"]
    rows = [
        (f"`{name}`", "random weights" if m["start"] is None else f"the encoder of `{m['start']}`", m["steps"],
         number(m["accuracy"]), number(m["balanced_accuracy"]), f"{m['firing_rate']:.1%}")
        for name, m in r["models"].items()
    ]  # fmt: skip
    header = ("network", "start", "steps", "accuracy", "balanced", "firing rate")
    return f"{table(header, rows, words=2)}\n\nCut-outs of simulated roads, split `{r['split']}`. {origin(r)}"
