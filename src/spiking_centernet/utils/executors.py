"""One function over many items on existing engines: a pool of processes here, ray, or SLURM through submitit."""

import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiking_centernet.errors import ConfigError, did_you_mean, need
from spiking_centernet.utils.provenance import num_cores

SLURM_ARRAY = 1000
"""Tasks of one job array: a cluster takes 1000 unless its ``MaxArraySize`` says otherwise."""

Run = Callable[[Callable[[Any], Any], Sequence[Any], "Executor"], Iterator[tuple[int, Any]]]


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Where tasks run.

    Attributes:
        kind: "local" (processes of this machine), "ray" (the cluster that ``RAY_ADDRESS`` or the setting ``address``
            names, else one started here) or "slurm".
        workers: how many tasks run at a time; None takes one a CPU core.
        logs: folder for submitit's scripts and logs; every node must see it.
        settings: further parameters: of ``ray.init``, or of submitit's ``update_parameters`` (``slurm_partition``,
            ``timeout_min``, ``mem_gb``); ``cluster`` chooses another of submitit's engines, "local" to try it out.

    Raises:
        ConfigError: unknown kind, or no worker.
    """

    kind: str = "local"
    workers: int | None = None
    logs: Path = Path("slurm")
    settings: dict[str, Any] | None = None

    def __post_init__(self):
        if self.kind not in ENGINES:
            raise ConfigError(f"no executor is called {self.kind!r}{did_you_mean(self.kind, ENGINES)}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")

    @property
    def num_workers(self) -> int:
        """How many tasks run at a time."""
        return self.workers or num_cores()

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the index of each item and the function's value, or the error it ended in, as they are done.

        Args:
            function: at module level, so that other processes find it.
            items: picklable.
        """
        if items:
            yield from ENGINES[self.kind](function, items, self)

    def values(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield the function's values as they are done; where some failed, raise one's error after the others' values.

        Raises:
            Exception: what the first item that failed ended in.
        """
        failed: dict[int, Exception] = {}
        for index, value in self.map(function, items):
            if isinstance(value, Exception):
                failed[index] = value
            else:
                yield value
        if failed:
            raise failed[min(failed)]


def _local(function: Callable[[Any], Any], items: Sequence[Any], executor: Executor) -> Iterator[tuple[int, Any]]:
    if min(executor.num_workers, len(items)) == 1:
        for index, item in enumerate(items):
            yield index, _value_or_error(function, item)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(executor.num_workers, len(items)), context) as pool:
        futures = {pool.submit(_value_or_error, function, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                try:
                    value = future.result()
                except Exception as error:  # a worker was killed, perhaps for lack of memory, or cannot send its value
                    value = error
                yield futures[future], value
        finally:
            # Who stops listening, or presses Ctrl-C, does not wait for what has not begun.
            pool.shutdown(cancel_futures=True)


def _ray(function: Callable[[Any], Any], items: Sequence[Any], executor: Executor) -> Iterator[tuple[int, Any]]:
    ray = need("ray", "the executor ray", "cluster")
    RayError = need("ray.exceptions", "the executor ray", "cluster").RayError
    started = not ray.is_initialized()
    if started:
        ray.init(**ray_settings(executor))
    try:
        remote = ray.remote(num_cpus=1)(_value_or_error)
        left, waiting = deque(enumerate(items)), {}
        while left or waiting:
            while left and len(waiting) < (executor.workers or len(items)):
                index, item = left.popleft()
                waiting[remote.remote(function, item)] = index
            done, _ = ray.wait(list(waiting), num_returns=1)
            try:
                value = ray.get(done[0])
            except RayError as error:
                value = error
            yield waiting.pop(done[0]), value
    finally:
        if started:
            ray.shutdown()


def ray_settings(executor: Executor) -> dict[str, Any]:
    """Return what ``ray.init`` is called with: only a cluster that is started here is told how many cores it has."""
    settings = {"include_dashboard": False, "log_to_driver": False, **(executor.settings or {})}
    if "address" in settings or os.environ.get("RAY_ADDRESS"):
        return settings
    return {"address": "local", "num_cpus": executor.num_workers, **settings}


def _slurm(function: Callable[[Any], Any], items: Sequence[Any], executor: Executor) -> Iterator[tuple[int, Any]]:
    submitit = need("submitit", "the executor slurm", "cluster")
    settings = dict(executor.settings or {})
    cluster = settings.pop("cluster", "slurm")
    if cluster == "slurm":
        settings.setdefault("slurm_array_parallelism", executor.num_workers)
    try:
        engine = submitit.AutoExecutor(folder=executor.logs, cluster=cluster)
        engine.update_parameters(**{"timeout_min": 60, "cpus_per_task": 1, **settings})
    except (NameError, RuntimeError, ValueError) as error:  # no SLURM here, or a setting that submitit does not know
        raise ConfigError(f"the tasks cannot go to {cluster}: {error}") from error
    # submitit's local engine starts everything at once.
    size = executor.num_workers if cluster == "local" else SLURM_ARRAY
    for first in range(0, len(items), size):
        part = items[first : first + size]
        jobs = engine.map_array(_value_or_error, [function] * len(part), part)
        for index, job in enumerate(jobs, start=first):
            try:
                yield index, job.result()
            except Exception as error:  # whatever ended the job: the time limit, the node, its memory
                yield index, error


ENGINES: dict[str, Run] = {"local": _local, "ray": _ray, "slurm": _slurm}
"""Every executor by its name."""


def _value_or_error(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except Exception as error:  # carried back as a value, so that one task's end is not the others'
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """Return the error, or its words where another process could not unpack it and would take all others down."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class makes of being copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
