"""What a run over windows says about itself: how full they were, and how near the best score came."""

import torch

from spiking_centernet.structures import Detections, VoxelSpec
from spiking_centernet.utils.text import counted


def filled_share(cube: torch.Tensor, spec: VoxelSpec) -> float:
    """Return the share of a window from its first cell of time with an event on; 0 without events.

    Args:
        cube: uint8 [T, C, H, W].
        spec: what it was made with.
    """
    cells, num_cells = cube.numpy(), spec.num_steps * spec.bins
    for cell in range(num_cells):
        # Both polarities of the micro bin; the first of them is nearly always the last that is looked at.
        if cells[cell // spec.bins, cell % spec.bins :: spec.bins].any():
            return 1 - cell / num_cells
    return 0.0


class Coverage:
    """Collects how full windows were and the best score of all, shown or not.

    Attributes:
        fit: whether windows are fitted to their events, see ``VoxelSpec``.
        filled: share of every window from its first event on, in the resolution of the cube's cells.
        best_score: highest score of any window; 0 before the first.
        best_us: the timestamp it belongs to.
    """

    def __init__(self, *, fit: bool):
        self.fit = fit
        self.filled: list[float] = []
        self.best_score, self.best_us = 0.0, 0

    def add_window(self, cube: torch.Tensor, spec: VoxelSpec) -> None:
        """Take the cube [T, C, H, W] of a window, at any scale."""
        self.filled.append(filled_share(cube, spec))

    def add_scores(self, found: Detections) -> None:
        """Take detections whatever their scores."""
        best = float(found.scores.max(initial=0))
        if best > self.best_score:
            self.best_score, self.best_us = best, found.t_us

    @property
    def partly_empty(self) -> list[float]:
        """The shares of the windows whose first cell of time is empty."""
        return [share for share in self.filled if share < 1]

    def to_dict(self) -> dict[str, float | int | None]:
        """Return plain JSON values."""
        shares = self.partly_empty
        return {
            "windows": len(self.filled),
            "fit_windows": self.fit,
            "partly_empty_windows": len(shares),
            "partly_empty_filled": round(sum(shares) / len(shares), 3) if shares else None,
            "best_score": round(self.best_score, 6),
            "best_score_t_us": self.best_us,
        }

    def messages(self, *, num_boxes: int, min_score: float, num_scales: int = 1) -> list[str]:
        """Return what a user should know: windows without a past, and what to try where nothing was found.

        Args:
            num_boxes: how many boxes were found.
            min_score: boxes below were dropped.
            num_scales: at how many scales they were looked for.
        """
        texts, shares = [], self.partly_empty
        if shares:
            texts.append(
                f"{len(shares)} of {counted(len(self.filled), 'window')} "
                f"{'is' if len(shares) == 1 else 'are'} partly empty, on average "
                f"{sum(shares) / len(shares):.0%} filled: "
                + ("their time steps were shortened to what is there" if self.fit else "scores may be lower")
            )
        if not num_boxes and self.best_score > 0:
            lower = max(0.01, int(self.best_score * 90) / 100)
            texts.append(
                f"no box reaches the score {min_score:g}; the best is {self.best_score:.3f}, at "
                f"{self.best_us * 1e-6:.3f} s: try --min_score {lower:g}"
                + ("" if num_scales > 1 else ", or objects of other sizes with --scale 0.5 or --scale pyramid")
            )
        return texts
