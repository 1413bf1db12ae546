"""A detector with every map there is: engine, exported files, NIR and the energy model compute what it computes."""

import numpy as np
import pytest
import torch
from calibrated import random_cube
from dyadic import dyadic
from tiers import thorough
from tiny import FEW_LAYERS, tiny_detector

from spiking_centernet.calibration import Calibration
from spiking_centernet.deploy.engine import compile
from spiking_centernet.deploy.export import check, export_detector
from spiking_centernet.deploy.export.nir import STEP_S, heads_of, nir_graph
from spiking_centernet.deploy.export.nir_check import every_step, run_nir
from spiking_centernet.evaluation.energy.counting import count_ops, require_fully_spiking

TASKS = ("detect", "detect3d", "pose")
EVERY_MAP = {"head.box_loss": "giou", "head.quality": 0.25, "head.joint_sides": "ordered", "head.placing": "ground"}
MAPS = ("heatmap", "wh", "offset", "quality", "box3d", "joints")
SIZE_HW = (64, 80)


@pytest.fixture(scope="module")
def model():
    return tiny_detector(tasks=TASKS, **EVERY_MAP)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_engine_gives_every_map(model, precision):
    cube = random_cube(SIZE_HW, batch=2, seed=1)
    exact = dyadic(model.fuse())
    output, _ = compile(exact, precision=precision)(cube)
    expected, _ = exact(cube)
    assert output._fields == expected._fields == MAPS
    for name, ours in output._asdict().items():
        torch.testing.assert_close(ours, getattr(expected, name), atol=1e-4, rtol=1e-5)
    camera = Calibration(np.full(2, 80.0), np.array([40.0, 32.0]))
    found = compile(exact, precision=precision).head.detections(
        output, [0, 1], size_hw=SIZE_HW, min_score=0.02, calibrations=[camera, None]
    )
    assert len(found[0])
    assert np.isfinite(found[0].box3d).all()
    assert np.isnan(found[1].box3d).all()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", *thorough(".xml")])
def test_an_exported_file_gives_every_map(suffix, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip({".onnx": "onnxruntime", ".xml": "openvino"}[suffix])
    exact = dyadic(tiny_detector(tasks=TASKS, **EVERY_MAP, **FEW_LAYERS).fuse())
    written = export_detector(exact, tmp_path / f"tiny{suffix}", size_hw=SIZE_HW, num_steps=1)
    report = check(exact, written)
    assert tuple(report.parity.max_difference) == MAPS
    assert max(report.parity.max_difference.values()) < 1e-5
    assert list(written.contract.head.tasks) == ["detect3d", "pose"]
    assert written.contract.head.settings.quality == 0.25
    assert written.contract.head.settings.joint_sides == "ordered"
    assert written.contract.head.settings.placing == "ground"
    assert f"{', '.join(MAPS)} = " in written.snippet.read_text()


def test_a_nir_graph_gives_every_map(model):
    pytest.importorskip("nir")
    fused = dyadic(tiny_detector(tasks=TASKS, **EVERY_MAP, head={"width": 4}, encoder={"widths": (4, 4, 4, 8)}).fuse())
    noise = (np.random.default_rng(0).random((3, 4, 64, 96)) < 0.1).astype(np.uint8)
    found = run_nir(nir_graph(fused, (64, 96)), noise, STEP_S)
    heads = every_step(fused, noise)[1]
    assert [head.shape[1] for head in heads] == [2, 2, 2, 1, 14, 47]
    for got, expected in zip(heads_of(found["output"], fused.config), heads, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_energy_counts_the_heads_of_every_task(model):
    fused = model.fuse()
    operations = count_ops(fused, random_cube(SIZE_HW, batch=1, seed=1))
    counted = {conv.name: conv.dense for conv in operations.convolutions}
    steps, height, width = 5, SIZE_HW[0] // 4, SIZE_HW[1] // 4
    for name, outputs in (("box3d", 14), ("joints", 47)):
        assert counted[f"heads.{name}.out"] == steps * height * width * 16 * outputs
        assert f"heads.{name}.block.conv" in counted
    require_fully_spiking(operations)
