"""How far a simulation is, shown in simulated seconds."""


class Bar:
    """One bar in simulated seconds, or nothing."""

    def __init__(self, shown: bool, total_s: float, done_s: float):
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("[bold]simulate"),
            BarColumn(),
            TextColumn("{task.completed:.1f} of {task.total:.1f} simulated s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not shown,
        )
        self._task = self._progress.add_task("simulate", total=total_s)
        self._progress.update(self._task, completed=done_s)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *failure) -> None:
        self._progress.stop()

    def advance(self, seconds: float) -> None:
        """Say that so many more are done."""
        self._progress.advance(self._task, seconds)
