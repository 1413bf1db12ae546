"""An exported file computes what the network computes, keeps its state, and runs without this package."""

import io
import json
import subprocess
import sys
from contextlib import nullcontext, redirect_stdout

import numpy as np
import pytest
import torch
import toy_roads
from dyadic import dyadic
from tiers import thorough
from tiny import FEW_LAYERS, tiny_detector

from spiking_centernet.deploy.export import check, export_detector, run
from spiking_centernet.deploy.export.contract import contract_of, mean_heads, run_torch, run_window
from spiking_centernet.deploy.export.exporting import write_snippet
from spiking_centernet.deploy.export.onnx import quantized, to_int8
from spiking_centernet.deploy.export.parity import bundled_windows, compare, score
from spiking_centernet.errors import ExportError, MissingPackageError, need
from spiking_centernet.evaluation.prediction import dataset_for, evaluate
from spiking_centernet.model import build

SIZE_HW = (64, 80)
QUALITY = {"head.box_loss": "giou", "head.quality": 0.25}
MODEL = dyadic(tiny_detector(seed=5, **QUALITY, **FEW_LAYERS).fuse())  # of this seed it finds several boxes
NEEDS = {".onnx": ("onnxscript", "onnxruntime"), ".xml": ("openvino", "onnxscript"), ".pt2": ()}
FORMATS = [pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".onnx", ".xml")] + thorough(".pt2")
"""That of .pt2 starts a compiler, which takes most of a minute."""


def noise(num_steps=5):
    return (np.random.default_rng(0).random((num_steps, 4, *SIZE_HW)) < 0.1).astype(np.uint8)


def without_trials():
    """Let Inductor try out no compiler: not which vectors it knows, nor headers compiled for the networks to come."""
    from torch._inductor import config

    return config.patch({"cpp.vec_isa_ok": True, "aot_inductor.precompile_headers": False})


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory):
    """The tiny detector in a format, a step a call."""
    for module in NEEDS[request.param]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    path = tmp_path_factory.mktemp("export") / f"tiny{request.param}"
    with without_trials() if request.param == ".pt2" else nullcontext():
        return export_detector(MODEL, path, size_hw=SIZE_HW, num_steps=1)


def test_a_file_computes_what_the_network_computes(written):
    """With exact sums every spike agrees, and so do the heads up to their own rounding."""
    report = check(MODEL, written)
    assert report.parity.num_windows == 4
    assert report.parity.spikes_differing == report.parity.membranes_differing == 0
    assert max(report.parity.max_difference.values()) < 1e-5
    assert report.rounding is None
    assert report.ap is None


def test_state_goes_on_from_call_to_call(written):
    contract = written.contract
    theirs = run(written.path, contract)
    membranes, state = contract.at_rest(), None
    for frame in noise(7):
        outputs = theirs({"cube": frame[None, None].astype(np.float32), **membranes})
        membranes = {name: outputs[f"new_{name}"] for name in membranes}
        expected, state = MODEL(torch.from_numpy(frame[None, None]), state)
        np.testing.assert_allclose(outputs["heatmap"], expected.heatmap, atol=1e-5)
    for found, name in zip(membranes.values(), contract.layers, strict=True):
        np.testing.assert_allclose(found, state[name], atol=1e-5)
    assert any(v.any() for v in membranes.values())


def test_the_snippet_runs_without_this_package(written, tmp_path):
    np.save(tmp_path / "cube.npy", noise()[:, None])
    text = written.snippet.read_text()
    assert len(text.splitlines()) <= 32
    text = text.replace(str(written.contract.score_threshold), "0.02")
    (low := written.snippet.with_name("low.py")).write_text(text)
    # -S would take numpy away too; None for a module makes its import fail.
    alone = "import runpy, sys; sys.modules['spiking_centernet'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-I", "-c", alone, str(low), str(tmp_path / "cube.npy")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    calls = run_window(run_torch(MODEL, written.contract), written.contract, noise())
    output = MODEL.head.output({k: torch.from_numpy(v) for k, v in mean_heads(calls, written.contract).items()})
    expected = MODEL.head.detections(output, [0], size_hw=(10_000, 10_000), min_score=0.02)[0]
    scores = sorted((float(line.split()[1]) for line in lines), reverse=True)
    assert len(scores) >= len(expected) > 0
    for value in expected.scores.round(3):
        assert np.abs(np.array(scores) - value).min() < 2e-3


@pytest.mark.parametrize("averaging", [0.0, 1.5])
@pytest.mark.parametrize("fit", [(0.0, 1.0, 0.0), (0.5, 2.0, 0.8)])
def test_the_snippet_averages_boxes_and_fits_scores_as_the_network(tmp_path, averaging, fit):
    settings = {"deployment.score_fit": fit, "head.averaging": averaging}
    fitted = dyadic(tiny_detector(seed=5, **QUALITY, **FEW_LAYERS, **settings).fuse())
    contract = contract_of(fitted, SIZE_HW)
    assert (contract.head.score_fit, contract.head.settings.averaging) == (fit, averaging)
    text = write_snippet(tmp_path / "tiny.onnx", contract).read_text()
    output, _ = fitted(torch.from_numpy(noise()[:, None]))
    maps = {name: part[0].detach().numpy() for name, part in output._asdict().items()}
    program = text[text.index("score = 1 /") :].replace(str(contract.score_threshold), "0.0")
    with redirect_stdout(io.StringIO()) as out:
        exec(program, {"np": np, **maps})
    (expected,) = fitted.head.detections(output, [0], size_hw=SIZE_HW)
    rows = np.array([line.split()[1:] for line in out.getvalue().splitlines()], float)
    rows[:, 1:] = rows[:, 1:].clip(0, [*SIZE_HW[::-1]] * 2)
    assert len(rows) >= len(expected) > 0
    for height, box in zip(expected.scores, expected.xyxy, strict=True):
        same = np.abs(rows[:, 0] - height) < 2e-3
        assert np.abs(rows[same, 1:] - box).max(axis=1).min() < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("written", [".onnx"], indirect=True)
def test_an_onnx_file_names_its_contract(written):
    import onnx

    model = onnx.load(written.path)
    assert [x.name for x in model.graph.input] == written.contract.input_names
    assert [x.name for x in model.graph.output] == written.contract.output_names
    (entry,) = model.metadata_props
    assert json.loads(entry.value)["classes"] == ["car", "pedestrian"]
    assert written.num_bytes < 6 * sum(p.numel() for p in MODEL.parameters()) + 60_000
    assert {path.name for path in written.path.parent.iterdir()} >= {"tiny.onnx", "run_tiny_onnx.py"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "weights", "unrolled"),
    [
        (".onnx", "int8", True), (".xml", "float32", False),
        *thorough((".onnx", "float32", False), (".onnx", "float32", True)),
    ],
)  # fmt: skip
def test_integers_and_their_virtual_steps_are_exported(tmp_path, suffix, weights, unrolled):
    for module in NEEDS[suffix]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    settings = {"neuron.kind": "ilif", "neuron.levels": 3, "voxels.num_steps": 2}
    model = tiny_detector(**settings, **FEW_LAYERS).with_exact_sums()
    network = model.unrolled() if unrolled else model
    made = export_detector(network, tmp_path / f"tiny{suffix}", size_hw=SIZE_HW, num_steps=1, weights=weights)
    report = check(network, made, weights=weights)
    assert report.parity.spikes_differing is None  # the membrane keeps what exceeds the spikes
    if weights == "float32":
        assert report.parity.membranes_differing == 0
        assert max(report.parity.max_difference.values()) < 1e-5
        if unrolled:  # the file of virtual steps computes what the integer network does, too
            assert check(model, made).parity.membranes_differing == 0
    else:
        assert report.parity.membranes_differing < 0.002


@pytest.mark.slow
def test_an_ann_has_no_membranes(tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    ann = tiny_detector(neuron={"kind": "relu"}, **FEW_LAYERS)
    made = export_detector(ann, tmp_path / "ann.onnx", size_hw=SIZE_HW)
    assert made.contract.input_names == ["cube"]
    report = check(ann, made)
    assert report.parity.spikes_differing is None
    assert max(report.parity.max_difference.values()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "num_steps"), [(".onnx", 2), (".xml", 1)])
def test_int8_weights_leave_spikes_exact(tmp_path, suffix, num_steps):
    for module in NEEDS[suffix]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    model = dyadic(tiny_detector(**{"voxels.num_steps": 2}, **FEW_LAYERS).fuse())
    path = tmp_path / f"tiny{suffix}"
    made = export_detector(model, path, size_hw=SIZE_HW, num_steps=num_steps, weights="int8")
    report = check(model, made, weights="int8")
    assert report.parity.spikes_differing < 0.002
    assert report.rounding is not None


def test_int8_is_refused_where_activations_are_no_spikes(tmp_path):
    """Rounding them to whole numbers, as is exact for spikes, would leave nothing of an ANN."""
    with pytest.raises(ExportError, match=r"neuron='relu'.*export float32"):
        export_detector(tiny_detector(neuron={"kind": "relu"}), tmp_path / "x.onnx", size_hw=SIZE_HW, weights="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (1, 1, 1, 1)])
def test_no_weight_moves_by_more_than_half_a_scale(shape):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    weight[0] = 0
    integers, scale = to_int8(weight)
    assert integers.dtype == np.int8
    back = integers * scale[:, None, None, None]
    assert (np.abs(back - weight) <= scale[:, None, None, None] * 0.5001).all()


def test_rounding_twice_is_rounding_once():
    once = quantized(MODEL)
    for a, b in zip(once.parameters(), quantized(once).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_the_score_of_an_exported_network_is_that_of_the_network(tmp_path):
    root = toy_roads.write_folder(tmp_path)
    model = tiny_detector()
    dataset = dataset_for(model, root, "val")
    size_hw = tuple(dataset[0].cube.shape[-2:])
    contract = contract_of(model, size_hw)
    found = score(run_torch(model.fuse(), contract), contract, dataset, protocol="none")
    assert found == pytest.approx(evaluate(model, root, protocol="none").ap, abs=1e-6, nan_ok=True)
    with pytest.raises(ExportError, match="export that size"):
        score(run_torch(model.fuse(), contract), contract_of(model, SIZE_HW), dataset)


def test_a_difference_is_found():
    contract = contract_of(MODEL, SIZE_HW, 1)
    other = dyadic(tiny_detector(seed=1, **QUALITY, **FEW_LAYERS).fuse())
    found = compare(
        run_torch(MODEL, contract), run_torch(other, contract), contract, bundled_windows(contract), hard_reset=True
    )
    assert found.spikes_differing > 0.01
    assert found.membranes_differing > 0.01
    with pytest.raises(ExportError, match="no window"):
        compare(run_torch(MODEL, contract), run_torch(MODEL, contract), contract, [], hard_reset=True)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("x.onx", {}, "did you mean '.onnx'"),
        ("x.onnx", {"num_steps": 2}, "divisor"),
        ("x.onnx", {"size_hw": (4, 4)}, "at least"),
        ("x.onnx", {"weights": "int4"}, "did you mean 'int8'"),
        ("x.pt2", {"weights": "int8"}, "float32"),
    ],
)
def test_impossible_exports_are_refused(tmp_path, name, changes, words):
    with pytest.raises(ExportError, match=words):
        export_detector(MODEL, tmp_path / name, **({"size_hw": SIZE_HW} | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder.skips": "or"},
        {"head.kind": "ssd"},
        {"head.kind": "pyramid"},
        {"encoder.identity": True},
        {"voxels.mode": "count"},
    ],
)
def test_variants_of_the_network_are_refused(tmp_path, changes):
    with pytest.raises(ExportError, match=f"networks with {next(iter(changes))}=.* cannot be exported"):
        export_detector(tiny_detector(**changes), tmp_path / "x.onnx", size_hw=SIZE_HW)
    assert not list(tmp_path.iterdir())


def test_classifiers_are_refused(tmp_path):
    with pytest.raises(ExportError, match="hold detectors alone; run a classifier by scn detect"):
        export_detector(build("nano-classify"), tmp_path / "x.onnx", size_hw=SIZE_HW)


def test_a_missing_package_has_its_line():
    with pytest.raises(MissingPackageError, match=r"needs nowhere_to_be_found.*pip install onnx.*extra \[onnx\]"):
        need("nowhere_to_be_found", "writing ONNX", "onnx")
