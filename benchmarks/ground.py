"""What the constants are worth by which 3D boxes are placed on one ground: each is changed alone.

    python benchmarks/ground.py --data data/roads --weights small-one-step-3d-pose

Choose them on the validation split, which is the default. Writes ``results/ground.json``: the mean center-distance AP
and the median errors of the distance, with the cameras' heights of the data, by vote, and by the votes of a recording's
labeled frames so far.
"""

import argparse
from unittest import mock

import torch
from stamp import stamp, this_command, write_result
from tasks import placed_on_ground, with_votes_carried, without_heights

import spiking_centernet as scn
from spiking_centernet.evaluation.box3d_errors import matched_errors
from spiking_centernet.evaluation.center_distance import evaluate_boxes3d
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.model.heads import ground
from spiking_centernet.model.weights import sha256

VALUES = {
    "EVEN_PX": (2.0, 4.0, 8.0, 16.0, 32.0),
    "FOOTPRINT": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "VOTING_SCORE": (0.2, 0.3, 0.4, 0.5),
}


def main() -> None:
    """Detect once, place and score with every value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", default="small-one-step-3d-pose")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = scn.build(weights=arguments.weights, **{"head.placing": "free"}).eval()
    dataset = dataset_for(model, arguments.data, arguments.split)
    found = predict(model, dataset, batch_size=8)
    objects = {recording.name: recording.objects for recording in dataset.recordings}
    cameras = {
        (name, t_us): None if (one := objects[name]) is None else one.calibration(t_us) for name, t_us in found.truth
    }

    def scored(detections) -> dict:
        errors = matched_errors(
            found.truth, detections, cameras, class_names=found.class_names,
            min_score=model.config.deployment.score_threshold,
        )  # fmt: skip
        ap = evaluate_boxes3d(found.truth, detections, class_names=found.class_names).primary
        return {"ap": ap, "range": {one.name: one.range for one in errors}}

    rows = {"free": scored(found.detections)}
    for constant, values in VALUES.items():
        for value in values:
            with mock.patch.object(ground, constant, value):
                row = {
                    how: scored(placed_on_ground(found.detections, known, found.size_hw))
                    for how, known in (
                        ("known", cameras),
                        ("voted", without_heights(cameras)),
                        ("carried", with_votes_carried(cameras)),
                    )
                }
            rows[f"{constant} {value:g}"] = row
            print(f"{constant} {value:g}", {how: round(one["ap"], 4) for how, one in row.items()}, flush=True)
    about = {"data": arguments.data, "split": arguments.split, "weights": arguments.weights}
    about |= {"sha256": sha256(arguments.weights), "frames": len(found.truth)}
    about |= {"chosen": {constant: getattr(ground, constant) for constant in VALUES}}
    print(write_result("ground", {**stamp(command=this_command(), seed=None), **about, "rows": rows}))


if __name__ == "__main__":
    main()
