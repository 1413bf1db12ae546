"""Training: a recipe and a folder of recordings in, a run folder with weights, metrics and pictures out."""

import dataclasses
import logging
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from spiking_centernet.calibration import Calibration
from spiking_centernet.data import FolderDataset, Guarded, collate_guarded, prefetch, raising
from spiking_centernet.errors import ConfigError, TrainingError, WeightsError
from spiking_centernet.evaluation.metrics import Score, best_threshold
from spiking_centernet.evaluation.prediction import (
    dataset_for,
    predict,
    protocol_for,
    require_task_labels,
)
from spiking_centernet.evaluation.score_fit import fit_scores, with_fitted_scores
from spiking_centernet.model import Detector, Memory
from spiking_centernet.model.config import AS_IT_IS
from spiking_centernet.model.config_dict import config_to_dict, with_changes
from spiking_centernet.model.context import State
from spiking_centernet.model.firing_rate import FiringRates
from spiking_centernet.model.stepping import choose_mode
from spiking_centernet.structures import Batch, Boxes
from spiking_centernet.training import distributed
from spiking_centernet.training.batch_norms import NUM_BATCHES, estimate_anew
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.distillation import Teacher
from spiking_centernet.training.log import OnRow, TrainingLog
from spiking_centernet.training.recipes import is_recipe, modules_to_freeze, recipe_for, with_classes_of
from spiking_centernet.training.run_dir import CHECKPOINT, OnlookerFolder, RunFolder, default_run_folder
from spiking_centernet.training.sequences import labels_of_answers, time_between_answers, window_of_chunks
from spiking_centernet.training.spike_penalty import watched
from spiking_centernet.training.state import EpochBatches, TrainState, learning_rate_at, make_optimizer
from spiking_centernet.utils.allocator import kept_memory
from spiking_centernet.utils.provenance import has_native_bfloat16

logger = logging.getLogger(__name__)


class Trainer:
    """One run: state, data and run folder; :meth:`fit` trains to the end."""

    def __init__(self, recipe: Recipe, data: str | os.PathLike[str], out: str | os.PathLike[str], *, resume: bool):
        if recipe.num_threads is not None:
            torch.set_num_threads(recipe.num_threads)
        native = recipe.precision == "bfloat16" or (recipe.precision == "auto" and has_native_bfloat16())
        self.num_workers = int((os.cpu_count() or 1) > 2) if recipe.num_workers is None else recipe.num_workers
        self.memory = Memory(spikes=recipe.spikes, checkpoint_stages=recipe.checkpoint_stages)
        self.precision = "bfloat16" if native else "float32"
        self.fabric = distributed.make_fabric("bf16-mixed" if native else "32-true")
        recipe = with_classes_of(recipe, data)
        model = distributed.with_whole_batch_norms(recipe.build(), self.fabric).to(self.fabric.device)
        self.recipe, config = recipe, model.config
        self.frozen = [part.requires_grad_(False) for part in modules_to_freeze(model, recipe)]
        if self.frozen and not any(p.requires_grad for p in model.parameters()):
            raise ConfigError(
                f"freeze: {recipe.freeze} leaves nothing to train; add a memory, network.recurrent.kind: gated, or "
                "further tasks to network.tasks"
            )
        self.teacher = Teacher.load(recipe.teacher, recipe.distillation, model) if recipe.teacher else None
        window = window_of_chunks(config.voxels, recipe.chunks)
        self.train_set = FolderDataset(
            data, "train", window, classes=config.classes,
            augmentation=recipe.augmentation, seed=recipe.seed, answers=recipe.answers * recipe.chunks,
            answer_us=time_between_answers(config, recipe),
        )  # fmt: skip
        self.plain_train_set = FolderDataset(data, "train", window, classes=config.classes) if native else None
        self.val_set = dataset_for(model, data, "val")
        for dataset in (self.train_set, self.val_set):
            require_task_labels(dataset, config)
        self.protocol = protocol_for(self.val_set, recipe.protocol)
        self.batches = EpochBatches(len(self.train_set), recipe.batch_size, recipe.seed, most=recipe.windows_per_epoch)
        self.steps_per_epoch = len(self.batches)
        self.num_steps = self.steps_per_epoch * recipe.epochs
        self.state = TrainState(
            model, make_optimizer(model, recipe), {k: v.detach().clone() for k, v in model.state_dict().items()}
        )
        self.teacher_notes = {} if self.teacher is None else {"teacher_sha256": self.teacher.sha256}
        resolved = dataclasses.asdict(recipe) | {
            "network": config_to_dict(config), "data": os.fspath(data), "precision": self.precision,
            **self.teacher_notes,
        }  # fmt: skip
        folder = RunFolder if self.fabric.is_global_zero else OnlookerFolder
        self.folder = folder(Path(out), resolved, resume=resume)
        checkpoint = self.folder.read_checkpoint() if resume else None
        if checkpoint is not None:
            try:
                self.state.restore(*checkpoint)
            except (KeyError, TypeError, RuntimeError) as error:
                where = self.folder.path / CHECKPOINT
                raise WeightsError(
                    f"{where}: is no checkpoint of this run ({error}); remove it to start again"
                ) from error
        if resume:
            self.folder.rewind(self.state.step, self.state.epochs_done)
        self.forward, self.optimizer = self.fabric.setup(model, self.state.optimizer, move_to_device=False)

    def fit(self, on_row: OnRow | None = None) -> Detector:
        """Train to the last epoch and return the detector with the best averaged weights.

        Args:
            on_row: called in the first process with the metrics of every step and every validation.

        Raises:
            TrainingError: the loss or its gradient is not finite; the batch that caused it lies in the run folder.
        """
        loader = DataLoader(
            Guarded(self.train_set), batch_sampler=distributed.OwnShare(self.batches, self.fabric),
            collate_fn=collate_guarded, num_workers=self.num_workers, persistent_workers=self.num_workers > 0,
        )  # fmt: skip  # pyright: ignore
        first = self.fabric.is_global_zero
        steps = self.recipe.epochs, self.num_steps, self.state.step
        with kept_memory(), TrainingLog(*steps, on_row=on_row, hidden=not first) as log:
            for epoch in range(self.state.epochs_done, self.recipe.epochs):
                if self._has_stopped():
                    break
                self.batches.epoch = epoch
                self.batches.first = self.state.step - epoch * self.steps_per_epoch
                self.train_set.set_epoch(epoch)
                if len(self.batches):
                    self._epoch(epoch, loader, log)
                last = epoch + 1 == self.recipe.epochs
                if last or (epoch + 1) % self.recipe.val_every == 0:
                    self._validate(epoch, log)
                self.state.epochs_done = epoch + 1
                self._checkpoint()
        self.folder.finish()
        self.fabric.barrier()
        return self.folder.best().to(self.fabric.device)

    def _has_stopped(self) -> bool:
        patience = self.recipe.early_stopping
        if patience is None or self.state.without_better < patience:
            return False
        logger.info("stopped early: no better AP in %d validations", self.state.without_better)
        return True

    def _epoch(self, epoch: int, loader: DataLoader, log: TrainingLog) -> None:
        since = time.perf_counter()
        for batch in raising(loader if loader.num_workers else prefetch(loader)):
            loading_s = time.perf_counter() - since
            watch = self.state.step % self.recipe.log_every == 0
            rates = FiringRates.of(self.state.model) if watch else None
            values = self._step(batch, rates)
            if self.state.step == 1:
                self.folder.draw_batch(batch, self.state.model.config)
            seconds = time.perf_counter() - since
            row = {"step": self.state.step, "epoch": epoch, **values, "seconds": seconds, "loading_s": loading_s}
            if rates is not None:
                row |= _rates_row(rates)
                self.folder.log(row)
            log.show(row)
            if self.recipe.checkpoint_every and self.state.step % self.recipe.checkpoint_every == 0:
                self._checkpoint()
            since = time.perf_counter()

    def _step(self, batch: Batch, rates: FiringRates | None) -> dict[str, float]:
        model, recipe = self.state.model, self.recipe
        rate = learning_rate_at(self.state.step, self.num_steps, recipe)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.forward.train()
        for part in self.frozen:
            part.eval()  # keeps the running means of its batch norms
        self.optimizer.zero_grad()
        state, rows = None, []
        boxes, cameras = labels_of_answers(batch, recipe.answers * recipe.chunks)
        each = len(boxes) // recipe.chunks
        for n, cube in enumerate(batch.cube.to(self.fabric.device).chunk(recipe.chunks)):
            own = slice(n * each, (n + 1) * each)
            labels = boxes[own], cameras[own]
            row, state = self._chunk(batch, cube, labels, state, rates=rates, goes_on=n + 1 < recipe.chunks)
            rows.append(row)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        self._refuse_not_finite(norm, "gradient's norm", batch)
        self.optimizer.step()
        self.state.step += 1
        self.state.average(recipe.ema_decay)
        means = {k: sum(row[k] for row in rows) / len(rows) for k in rows[0]}
        return {**means, "grad_norm": float(norm), "learning_rate": rate}

    def _chunk(
        self,
        batch: Batch,
        cube: Tensor,
        labels: tuple[list[Boxes], list[Calibration | None]],
        state: State | None,
        *,
        rates: FiringRates | None,
        goes_on: bool,
    ) -> tuple[dict[str, float], State]:
        """Add the gradient of one window of the batch; return its losses and the state that the next one starts from.

        Args:
            batch: all windows, which are kept where the loss is not finite.
            cube: of this window, [T, B, C, H, W].
            labels: boxes and cameras of its answers.
            state: where the window before ended, None at first.
            rates: see the spikes, where they are watched.
            goes_on: whether another window follows.
        """
        model, recipe = self.state.model, self.recipe
        seen = None if self.teacher is None else self.teacher.watch(model, rates)
        with watched(model, recipe.penalty, seen or rates) as activity:
            output, carried = self.forward(
                cube, state, observe=activity.observe, keep_state=goes_on, memory=self.memory, answers=recipe.answers
            )
        # The whole batch is for the loss alone: the teacher is shown this process's own part.
        whole = distributed.gather_batch(self.fabric, model.head, output, *labels)
        loss = model.head.loss(*whole, task_weights=recipe.task_weights)
        if self.teacher is not None:
            with self.fabric.autocast():
                loss = self.teacher.add(loss, cube, output, model, seen, batch.boxes)
        total = loss.total + activity.loss()
        self._refuse_not_finite(total, "loss", batch)
        self.fabric.backward(total / recipe.chunks)
        row = {"loss": total.item(), **{f"loss_{k}": v.item() for k, v in loss.parts.items()}, **activity.row()}
        return row, {name: v.detach() for name, v in carried.items()}

    def _refuse_not_finite(self, value: Tensor, what: str, batch: Batch) -> None:
        if not torch.isfinite(value):
            path = self.folder.save_bad_batch(batch)
            raise TrainingError(
                f"the {what} of step {self.state.step} is {value.item()}; its batch lies in {path}. "
                "Lower the learning rate, or look at the batch; the last checkpoint is intact"
            )

    def _validate(self, epoch: int, log: TrainingLog) -> None:
        model = self.state.averaged()
        if self.plain_train_set is not None:
            estimate_anew(
                model, self.plain_train_set, batch_size=self.recipe.batch_size, chunks=self.recipe.chunks,
                batches=min(NUM_BATCHES, self.steps_per_epoch), seed=self.recipe.seed,
                frozen=modules_to_freeze(model, self.recipe),
            )  # fmt: skip
        rates = FiringRates.of(model)
        if choose_mode("auto", model) == "stateful":
            names = [self.val_set.locate(index)[0].name for index in range(len(self.val_set))]
            own = Subset(self.val_set, distributed.own_clips(self.fabric, names))
        else:
            own = Subset(self.val_set, distributed.own_indices(self.fabric, len(self.val_set)))
        # In float32, whatever the training's precision: that is how weights are run, and their score can differ.
        predictions = predict(
            model, own, batch_size=self.recipe.batch_size, observe=rates, num_workers=self.num_workers
        )  # fmt: skip
        first, *others = distributed.gather(self.fabric, predictions)
        predictions = first.merge(others)
        counts = distributed.gather(self.fabric, rates)
        rates.merge(counts[: self.fabric.global_rank] + counts[self.fabric.global_rank + 1 :])
        fit = AS_IT_IS
        if self.recipe.fit_scores and not model.config.classifies:
            fit = fit_scores([predictions], protocol=self.protocol)
            predictions = with_fitted_scores(predictions, fit)
        score = predictions.score(self.protocol)
        row = {"step": self.state.step, "epoch": epoch, "ap": score.ap, "ap50": score.ap50}
        row |= {f"ap_{c.name}": c.ap for c in score.classes}
        row |= {f"{task}_{k}": v for task, found in score.tasks.items() for k, v in found.rows().items()}
        row |= {f"val_{k}": v for k, v in _rates_row(rates).items()}
        self.folder.log(row)
        self.folder.draw_validation(epoch, self.val_set, predictions)
        primary = score.primary(self.recipe.select_by or model.config.tasks[-1])
        ap = -1.0 if math.isnan(primary) else primary  # no box to score is worse than no match
        if not score.num_truth and self.state.best_ap <= ap and self.fabric.is_global_zero:
            warnings.warn(
                f"no box of the validation split passes the size and time filter of protocol {self.protocol}: "
                "no AP can choose the best weights, so those of the last epoch are kept; protocol none filters nothing",
                stacklevel=2,
            )
        self.state.without_better += 1
        if ap > self.state.best_ap or (not score.num_truth and ap >= self.state.best_ap):
            self.state.best_ap, self.state.without_better = ap, 0
            voxels = model.config.voxels
            trained_hw = voxels.frame_hw if voxels.takes_frames else predictions.size_hw
            # A classifier answers with the probability of every class, whatever it is.
            threshold = 0.0 if model.config.classifies else best_threshold(score)
            deployment = {"score_threshold": threshold, "trained_hw": trained_hw, "score_fit": fit}
            config = with_changes(model.config, {"deployment": deployment})
            self.folder.save_best(Detector(config), model.state_dict(), self._notes(score, epoch, rates))
        log.show(row)

    def _notes(self, score: Score, epoch: int, rates: FiringRates) -> dict[str, Any]:
        return {
            "validation": {k: v for k, v in score.to_dict().items() if k != "classes"},
            "epoch": epoch,
            "step": self.state.step,
            "firing_rate": rates.overall(),
            "firing_rates": rates.per_layer(),
            "recipe": dataclasses.asdict(self.recipe),
            **self.teacher_notes,
        }

    def _checkpoint(self) -> None:
        names = ("step", "epochs_done", "best_ap", "without_better")
        notes = {name: getattr(self.state, name) for name in names}
        self.folder.save_checkpoint(self.state.tensors(), config_to_dict(self.state.model.config), notes)


def _rates_row(rates: FiringRates) -> dict[str, float]:
    return {"firing_rate": rates.overall(), "dead_layers": len(rates.silent())} | {
        f"rate/{name}": rate for name, rate in rates.per_layer().items()
    }


@overload
def train(
    recipe: str | os.PathLike[str], /, *, out: str | os.PathLike[str] | None = None, resume: bool = False,
    on_row: OnRow | None = None, **fields: Any,
) -> Detector: ...  # fmt: skip
@overload
def train(
    recipe: Recipe | str | os.PathLike[str] | None, data: str | os.PathLike[str], *,
    out: str | os.PathLike[str] | None = None, resume: bool = False, on_row: OnRow | None = None, **fields: Any,
) -> Detector: ...  # fmt: skip
def train(
    recipe: Recipe | str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_row: OnRow | None = None,
    **fields: Any,
) -> Detector:
    """Train a detector on a GEN1-style folder and return it with the best averaged weights.

    ``train("mine")``, with the folder alone, takes the recipe that suits its size, as ``scn train --data mine`` does.

    Args:
        recipe: everything but the data: a recipe, a YAML file, or the name of a bundled recipe; None: what suits.
        data: folder with ``train`` and ``val``.
        out: the run folder: config.yaml, metrics.csv, tensorboard, checkpoint, best weights, pictures; None:
            ``runs/NAME``, named like the data.
        resume: continue from the run folder's checkpoint; on a CPU the result equals that of an uninterrupted run.
        on_row: called with the metrics of every step and every validation.
        fields: of the recipe, to be changed, for example ``epochs=10``.

    Raises:
        ConfigError: a field is unknown or impossible, the data is not given, the run folder is taken, or resumed with
            another recipe.
        DatasetError: the data folder does not hold what it should.
        TrainingError: the loss or its gradient is not finite.
    """
    if data is None:
        if isinstance(recipe, Recipe) or recipe is None or (not Path(recipe).is_dir() and is_recipe(recipe)):
            raise ConfigError(f'data is missing; give the folder too: scn.train({_shown(recipe)}, "mine")')
        recipe, data = None, recipe
    recipe = recipe_for(recipe, data, fields)
    return Trainer(recipe, data, default_run_folder(data) if out is None else out, resume=resume).fit(on_row)


def _shown(recipe: Recipe | str | os.PathLike[str] | None) -> str:
    return "recipe" if recipe is None or isinstance(recipe, Recipe) else repr(str(recipe))
