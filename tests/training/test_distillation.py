"""The teacher sees exactly what it was trained on; the distance to it in closed form; wrong teachers are refused."""

import dataclasses

import numpy as np
import pytest
import torch
import toy_roads
import yaml
from tiers import thorough
from toy_roads import NETWORK, recipe

from spiking_centernet.data import voxelize
from spiking_centernet.errors import ConfigError
from spiking_centernet.model import Detector, DetectorOutput, build
from spiking_centernet.model.heads.base import Loss
from spiking_centernet.model.weights import notes, read_tensors, save, sha256
from spiking_centernet.structures import EVENT_DTYPE, Boxes
from spiking_centernet.training.distillation import Distillation, LastFeatures, Teacher, check, teacher_cube
from spiking_centernet.training.run_dir import read_metrics
from spiking_centernet.training.spike_penalty import SpikePenalty
from spiking_centernet.training.trainer import train

SMALL = {"encoder.widths": (8, 8, 16), "encoder.convs_per_stage": 1, "decoder.num_blocks": 2, "head.width": 8}
ZERO = torch.zeros(())
NO_BOXES = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
NO_LOSS = Loss(ZERO, {"heatmap": ZERO, "wh": ZERO, "offset": ZERO})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def teacher_path(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    # 3 steps of 100 ms have bins that one 33 ms step cannot be cut into whole microseconds of: take all of them.
    train(recipe(epochs=1, network=NETWORK | {"neuron.kind": "relu", "voxels.num_steps": 1}), data, out=out)
    return out


def config(**changes):
    return build("nano", **(SMALL | changes)).config


@pytest.mark.parametrize("mode", ["binary", "count"])
@pytest.mark.parametrize(
    "changes",
    [
        {"voxels.num_steps": 1, "voxels.window_us": 20_000},
        {"voxels.num_steps": 1},
        {"voxels.num_steps": 5},
        {"voxels.num_steps": 1, "voxels.bins": 10},
        {"voxels.num_steps": 2, "voxels.window_us": 40_000},
        {"voxels.num_steps": 1, "voxels.window_us": 60_000, "voxels.bins": 1},
    ],
    ids=str,
)
def test_the_teacher_sees_what_binning_its_own_window_gives(mode, changes):
    rng = np.random.default_rng(0)
    events = np.zeros(4000, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 100_000, len(events)))
    events["x"], events["y"], events["p"] = rng.integers(0, 6, 4000), rng.integers(0, 5, 4000), rng.integers(0, 2, 4000)
    events[:600]["x"], events[:600]["y"], events[:600]["p"] = 0, 0, 1
    student, teacher = config(voxels={"mode": mode}), config(neuron={"kind": "relu"}, voxels={"mode": mode}, **changes)
    check(teacher, student)

    def cube(c):
        return voxelize(events, stop_us=100_000, size_hw=(5, 6), spec=c.voxels)

    assert torch.equal(teacher_cube(cube(student)[:, None], student.voxels, teacher.voxels)[:, 0], cube(teacher))


class Constant(Detector):
    """Answers with the same output whatever it sees."""

    def __init__(self, config, output):
        super().__init__(config)
        self.output = output

    def forward(self, cube, state=None, *, observe=None, keep_state=True):
        return self.output, {}


def outputs(heatmap, wh=0.0, offset=0.0):
    maps = (torch.full((1, 2, 3, 4), value) for value in (heatmap, wh, offset))
    return DetectorOutput(*maps)


def distance(settings, taught, output, boxes=(NO_BOXES,)):
    student = build("nano", **SMALL)
    teacher = Teacher(Constant(config(neuron={"kind": "relu"}), taught), settings, student)
    cube = torch.zeros(5, 1, 4, 24, 32, dtype=torch.uint8)
    return teacher.add(NO_LOSS, cube, output, student, None, boxes)


def test_the_distance_in_closed_form():
    taught, output = outputs(2.0, 1.0, 0.0), outputs(-1.0, 0.0, 3.0)
    assert distance(Distillation(), taught, output).parts["distillation"].item() == pytest.approx(9)
    heads = distance(Distillation(heatmap=0, heads=1), taught, output)
    assert heads.parts["distillation"].item() == pytest.approx((9 + 1 + 9) / 3)
    both = distance(Distillation(alpha=0.5, heatmap=2, heads=3), taught, output)
    assert both.parts["distillation"].item() == pytest.approx(18 + 19)
    assert both.total.item() == pytest.approx(18.5)
    assert distance(Distillation(heads=1), taught, taught).total.item() == 0


def test_weighted_by_objects_only_the_pixels_around_centers_count():
    boxes = Boxes(np.array([[0.0, 0.0, 8.0, 8.0]], np.float32), np.array([1]))  # its center lies in pixel (1, 1)
    gaussians = build("nano", **SMALL).head.targets([boxes], outputs(0.0)).heatmap.amax(1)
    assert gaussians[0, 1, 1] == 1
    assert 1 <= gaussians.sum() < 4
    found = distance(Distillation(where="objects"), outputs(2.0), outputs(-1.0), [boxes])
    assert found.total.item() == pytest.approx(9 * gaussians.sum().item())
    far = outputs(-1.0)
    far.heatmap[gaussians[:, None].expand_as(far.heatmap) == 0] = 50.0  # the background is the student's own affair
    assert distance(Distillation(where="objects"), outputs(2.0), far, [boxes]).total.item() == found.total.item()
    heads = distance(
        Distillation(heatmap=0, heads=1, where="objects"), outputs(2.0, 1.0, 0.0), outputs(-1.0, 0.0, 3.0), [boxes]
    )
    assert heads.total.item() == pytest.approx((9 + 1 + 9) / 3 * gaussians.sum().item())
    assert distance(Distillation(where="objects"), outputs(2.0), outputs(-1.0)).total.item() == 0


def test_temperature_in_closed_form():
    taught, output = outputs(2.0), outputs(-1.0)
    for t in (1.0, 4.0):
        expected = (t * (1 / (1 + np.exp(-2 / t)) - 1 / (1 + np.exp(1 / t)))) ** 2
        found = distance(Distillation(temperature=t), taught, output).parts["distillation"].item()
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_gradient_pulls_the_student_to_the_teacher():
    heatmap = torch.full((1, 2, 3, 4), -1.0, requires_grad=True)
    output = outputs(0.0)._replace(heatmap=heatmap)
    distance(Distillation(), outputs(2.0), output).total.backward()
    assert (heatmap.grad < 0).all()


def test_features_are_those_of_the_last_layer_before_the_heads():
    torch.manual_seed(0)
    student, twin = (
        build("nano", **SMALL, neuron={"threshold": 0.1}),
        build("nano", **SMALL, neuron={"kind": "relu"}),
    )
    teacher = Teacher(twin, Distillation(heatmap=0, features=1), student)
    cube = (torch.rand(5, 2, 4, 24, 32) < 0.3).to(torch.uint8)
    seen = []
    watched = teacher.watch(student, lambda name, _: seen.append(name))
    output, _ = student.train()(cube, observe=watched, keep_state=False)
    assert seen == student.neuron_names
    rate = watched.mean(5)
    assert rate.shape[1] == student.decoder.out_channels
    torch.testing.assert_close(rate.square().mean((1, 2, 3)), torch.ones(2), rtol=1e-3, atol=1e-3)
    loss = teacher.add(NO_LOSS, cube, output, student, watched, [NO_BOXES] * 2)
    loss.total.backward()
    assert student.encoder.stem.conv.weight.grad.abs().max() > 0
    assert student.heads["heatmap"].out.weight.grad is None
    assert all(p.grad is None and not p.requires_grad for p in twin.parameters())


def test_nobody_watches_what_is_not_compared():
    student = build("nano", **SMALL)
    assert (
        Teacher(build("nano", **SMALL, neuron={"kind": "relu"}), Distillation(), student).watch(student, None) is None
    )
    assert LastFeatures(student)._wanted == student.neuron_names[-4]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": ("car", "bicycle")}, "classes car, bicycle, the student car, pedestrian"),
        ({"decoder.num_blocks": 1}, "stride 8, the student 4"),
        ({"voxels.mode": "count"}, "voxels.mode count"),
        ({"head.kind": "ssd"}, "distillation compares maps.*got ssd"),
        ({"head.kind": "pyramid"}, "distillation compares maps.*got pyramid"),
        ({"voxels.num_steps": 1, "voxels.window_us": 200_000}, "cannot be cut"),
        ({"voxels.num_steps": 3}, "cannot be cut"),
        ({"voxels.num_steps": 1, "voxels.window_us": 15_000}, "cannot be cut"),
    ],
)
def test_a_wrong_teacher_is_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        Teacher(build("nano", **(SMALL | {"neuron.kind": "relu"} | changes)), Distillation(), build("nano", **SMALL))


def test_features_of_another_width_are_refused():
    twin = build("nano", **(SMALL | {"encoder.widths": (8, 16, 16)}), neuron={"kind": "relu"})
    Teacher(twin, Distillation(), build("nano", **SMALL))
    with pytest.raises(ConfigError, match="features need equal ones"):
        Teacher(twin, Distillation(features=1), build("nano", **SMALL))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha": 0}, "alpha must be positive"),
        ({"heads": -1}, "no weight negative"),
        ({"heatmap": 0}, "must have a weight"),
        ({"temperature": 0}, "temperature must be positive"),
    ],
)
def test_impossible_settings_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        Distillation(**settings)


def test_settings_without_a_teacher_are_refused():
    with pytest.raises(ConfigError, match="needs a teacher"):
        recipe(distillation=Distillation(heads=1))


@pytest.mark.slow
def test_a_student_trains_on_what_lies_around_objects(data, teacher_path, tmp_path):
    plan = recipe(epochs=1, teacher=str(teacher_path), distillation=Distillation(where="objects"), network=NETWORK)
    train(plan, data, out=tmp_path / "run")
    rows = [r for r in read_metrics(tmp_path / "run" / "metrics.csv") if r["loss"]]
    assert all(np.isfinite(row["loss_distillation"]) and row["loss_distillation"] > 0 for row in rows)


@pytest.mark.slow
def test_a_student_trains_and_keeps_the_teacher_out_of_its_files(data, teacher_path, tmp_path):
    plan = recipe(epochs=2, teacher=str(teacher_path), distillation=Distillation(heads=1, features=1))
    train(plan, data, out=tmp_path / "run")
    rows = [row["loss_distillation"] for row in read_metrics(tmp_path / "run" / "metrics.csv") if row["loss"]]
    assert len(rows) == 8
    assert all(np.isfinite(rows))
    assert sum(rows[-2:]) < sum(rows[:2])
    digest = sha256(teacher_path)
    assert notes(tmp_path / "run")["teacher_sha256"] == digest
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["teacher_sha256"] == digest
    names = set(read_tensors(tmp_path / "run" / "last.safetensors")[0])
    assert not any("teacher" in name for name in names)
    assert {n.split("/", 1)[1] for n in names if n.startswith("model/")} == set(build("nano", **NETWORK).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, *thorough({"decoder.skips": "or", "encoder.identity": True, "voxels.mode": "count"})]
)
def test_memory_options_change_nothing_with_a_teacher_and_a_price(data, teacher_path, tmp_path, changes):
    teacher = teacher_path
    if changes:
        teacher = tmp_path / "teacher"
        train(recipe(epochs=1, network=NETWORK | {"neuron.kind": "relu", "voxels.mode": "count"}), data, out=teacher)
    of, spikes = ("spikes", "uint8") if changes else ("operations", "float")
    plan = recipe(
        epochs=1, teacher=str(teacher), distillation=Distillation(heads=1, features=1), network=NETWORK | changes,
        penalty=SpikePenalty(target=0.01, of=of),
    )  # fmt: skip
    losses = []
    for name, memory in (("plain", {}), ("lean", {"spikes": spikes, "checkpoint_stages": True})):
        train(dataclasses.replace(plan, **memory), data, out=tmp_path / name)
        rows = [r for r in read_metrics(tmp_path / name / "metrics.csv") if r["loss"]]
        assert all(row["loss_penalty"] > 0 and row["loss_distillation"] > 0 for row in rows)
        losses.append([row["loss"] for row in rows])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
def test_resuming_with_another_teacher_is_refused(data, teacher_path, tmp_path):
    path = tmp_path / "teacher.safetensors"
    path.write_bytes((teacher_path / "best.safetensors").read_bytes())
    plan = recipe(epochs=1, teacher=str(path))
    train(plan, data, out=tmp_path / "run")
    save(build("nano", **NETWORK, neuron={"kind": "relu"}), path)
    with pytest.raises(ConfigError, match="teacher_sha256 was"):
        train(plan, data, out=tmp_path / "run", resume=True)


def test_a_teacher_that_does_not_fit_stops_before_a_folder_is_made(data, tmp_path):
    path = save(build("nano", **(NETWORK | {"decoder.num_blocks": 2}), neuron={"kind": "relu"}), tmp_path / "teacher")
    with pytest.raises(ConfigError, match="same output stride"):
        train(dataclasses.replace(recipe(), teacher=str(path)), data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
