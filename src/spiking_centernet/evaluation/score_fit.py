"""Scores that mean something: how likely a box is right, fitted on validation data by its peak and its size."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.metrics import Protocol
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.model.config import AS_IT_IS
from spiking_centernet.model.heads.base import fit_inputs, fitted_scores
from spiking_centernet.structures import select

LEAST_SCORE = 0.03
"""Peaks below are left out: there are very many, none of them is shown, and the fit would be of them alone."""

LEAST_RIGHT = 50
"""With fewer right boxes the scores stay as they are: three numbers would be fitted to chance."""


def fit_scores(predictions: Sequence[Predictions], *, protocol: str | Protocol = "none") -> tuple[float, float, float]:
    """Return the ``deployment.score_fit`` with which scores are probabilities, by logistic regression.

    A box is right if it overlaps a free one of its class by IoU 0.5, see ``box_matches.match_frames``.

    Args:
        predictions: of validation data, made with scores as they are; where there are several data sets, each weighs as
            much. Sensor and cube have the same pixels.
        protocol: which boxes count.

    Returns:
        Offset, slope and weight of the size, see ``heads.base.fitted_scores``; (0, 1, 0) where too few boxes are right
        or higher peaks are no better.

    Raises:
        ConfigError: The protocol is unknown.
    """
    inputs, right, weights = [], [], []
    for part in predictions:
        matches = match_frames(part, min_score=LEAST_SCORE, protocol=protocol).values()
        if not any(len(match.shown) for match in matches):
            continue
        inputs += [fit_inputs(match.shown.scores, match.shown.xyxy) for match in matches]
        right += [~match.is_false for match in matches]
        weights += [np.full(len(match.shown), 1 / len(matches)) for match in matches]
    if not right or sum(map(np.sum, right)) < LEAST_RIGHT:
        return AS_IT_IS
    offset, slope, size = _logistic_regression(*map(np.concatenate, (inputs, right, weights)))
    return (offset, slope, size) if slope > 0 else AS_IT_IS


def _logistic_regression(inputs: np.ndarray, right: np.ndarray, weights: np.ndarray) -> tuple[float, ...]:
    """Return the coefficients, by Newton's method, rounded so that they read well; (0, 1, 0) where it finds none."""
    weights = weights / weights.mean()
    fit = np.array(AS_IT_IS)
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ fit, -50, 50)))
        slope = inputs.T @ (weights * (right - chance))
        curvature = (inputs * (weights * chance * (1 - chance))[:, None]).T @ inputs
        # A weak pull to 0 keeps the coefficients finite where the right boxes can be told without an error.
        step = np.linalg.solve(curvature + 1e-3 * np.eye(len(fit)), slope - 1e-3 * fit)
        fit = fit + step
        if np.abs(step).max() < 1e-9:
            return tuple(round(float(value), 4) for value in fit)
    return AS_IT_IS


def with_fitted_scores(predictions: Predictions, fit: Sequence[float]) -> Predictions:
    """Return predictions whose scores were as they are with fitted ones, best first."""
    detections = {}
    for key, found in predictions.detections.items():
        scores = fitted_scores(found.scores, found.xyxy, fit)
        detections[key] = select(replace(found, scores=scores), np.argsort(-scores, kind="stable"))
    return replace(predictions, detections=detections)
