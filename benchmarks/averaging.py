"""What averaging the boxes around a peak gains: AP of trained detectors at several exponents of the heat.

The network computes every window once; its maps are decoded at each exponent. Choose the exponent on the validation
split; ``--keep`` then writes the weights with it, and with the score and the threshold that they have there.

    python benchmarks/averaging.py --data data/roads
    python benchmarks/averaging.py --data data/roads --models runs/small_integer_longer --exponents 2 --keep build/kept
"""

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from stamp import stamp, this_command, write_result
from torch.utils.data import DataLoader

import spiking_centernet as scn
from spiking_centernet.data import collate
from spiking_centernet.evaluation.metrics import best_threshold
from spiking_centernet.evaluation.prediction import Predictions, dataset_for, predict
from spiking_centernet.model import Detector
from spiking_centernet.model.heads import make_head
from spiking_centernet.model.scaling import detections_of
from spiking_centernet.model.weights import notes, save, sha256
from spiking_centernet.utils.progress import track

PROTOCOL = "prophesee"


def predict_at(model: Detector, data: str, split: str, exponents: list[float]) -> dict[float, Predictions]:
    """Return the detections of a split with boxes averaged at each exponent; 0 takes the peak's own box."""
    config = model.config
    heads = {e: make_head(replace(config, head=replace(config.head, averaging=e))) for e in exponents}
    truth, found = {}, {e: {} for e in exponents}
    loader = DataLoader(dataset_for(model, data, split), batch_size=8, collate_fn=collate)
    fused, size_hw = model.fuse(), (0, 0)
    for batch in track(loader, "detecting", len(loader)):
        size_hw = (batch.cube.shape[-2], batch.cube.shape[-1])
        with torch.inference_mode():
            output, _ = fused(batch.cube)
        frames = list(zip(batch.recordings, batch.t_us, strict=True))
        truth |= dict(zip(frames, batch.boxes, strict=True))
        for exponent, head in heads.items():
            results = detections_of(
                head, output, batch.t_us, cube_hw=size_hw, size_hw=size_hw, ratio=Fraction(1), min_score=0.0
            )
            found[exponent] |= dict(zip(frames, results, strict=True))
    return {e: Predictions(truth, detections, size_hw, config.classes, ("detect",)) for e, detections in found.items()}


def keep(name: str, data: str, exponent: float, placing: str | None, folder: Path) -> Path:
    """Write the weights with what is decoded otherwise, the score on the validation split and its threshold."""
    config = scn.load(name).config
    settings = {"head.averaging": exponent, "deployment.score_fit": config.deployment.score_fit}
    settings["head.placing"] = placing or config.head.placing
    model = scn.build(weights=name, **settings).eval()
    score = predict(model, dataset_for(model, data, "val")).score(PROTOCOL)
    tasks = "".join(f", {task} {own.primary:.4f}" for task, own in score.tasks.items())
    print(f"{name}: AP {score.ap:.4f}, AP50 {score.ap50:.4f}, AP75 {score.ap75:.4f}{tasks}")
    chosen = scn.build(weights=name, **settings, **{"deployment.score_threshold": best_threshold(score)})
    validation = {k: v for k, v in score.to_dict().items() if k != "classes"}
    return save(chosen, folder / "best", notes={**notes(name), "validation": validation})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/roads")
    parser.add_argument("--split", default="val")
    parser.add_argument("--models", nargs="+", default=["nano-integer", "small-integer-sparse", "nano", "small"])
    parser.add_argument("--exponents", nargs="+", type=float, default=[0, 1, 2, 4])
    parser.add_argument("--placing", choices=("free", "ground"), help="with --keep: where 3D boxes stand")
    parser.add_argument("--keep", type=Path, help="folder for best.safetensors, with the one exponent; no result file")
    arguments = parser.parse_args()
    if arguments.keep:
        if (len(arguments.models), len(arguments.exponents)) != (1, 1):
            parser.error("--keep takes one model and one exponent")
        print(keep(arguments.models[0], arguments.data, arguments.exponents[0], arguments.placing, arguments.keep))
        return
    models, num_windows = {}, 0
    for name in arguments.models:
        model, rows = scn.load(name), {}
        for exponent, predictions in predict_at(model, arguments.data, arguments.split, arguments.exponents).items():
            score, num_windows = predictions.score(PROTOCOL), len(predictions.truth)
            rows[f"{exponent:g}"] = {"ap": score.ap, "ap50": score.ap50, "ap75": score.ap75}
            print(f"{name:14s} {exponent:g}  {' '.join(f'{k} {v:.4f}' for k, v in rows[f'{exponent:g}'].items())}")
        models[name] = {"weights_sha256": sha256(name), "box_loss": model.config.head.box_loss, "exponents": rows}
    chosen = {"data": arguments.data, "split": arguments.split, "protocol": PROTOCOL, "num_windows": num_windows}
    print(write_result("averaging", {**stamp(command=this_command(), seed=None), **chosen, "models": models}))


if __name__ == "__main__":
    main()
