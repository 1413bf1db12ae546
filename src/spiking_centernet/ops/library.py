"""The native kernels: finding the compiled library, choosing the instruction set, calling it.

The library is plain C called through ctypes, so one build serves every version of Python. It takes its threads from the
OpenMP runtime that torch has loaded: ``torch.set_num_threads`` governs it. Where it is missing (no compiler when the
package was installed), callers compute the same results by slower means.
"""

import ctypes
import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch  # noqa: F401  loads the OpenMP runtime that the library's symbols are resolved with

from spiking_centernet.errors import ConfigError

PATH_VARIABLE = "SCN_NATIVE"
"""Environment variable: the path of another build of the library, or "off" to do without it."""

ISA_VARIABLE = "SCN_ISA"
"""Environment variable: the instruction set to use instead of the best one."""


@dataclass(frozen=True)
class Native:
    """The loaded library.

    Attributes:
        path: the file it was loaded from.
        instruction_sets: what this processor can run, best first.
        instruction_set: the one in use.
    """

    path: Path
    instruction_sets: tuple[str, ...]
    instruction_set: str
    library: ctypes.CDLL

    def kernel(self, name: str, argtypes: list, restype: object = None, *, isa: str | None = None):
        """Return one C function, by default for the instruction set in use."""
        function = self.library[f"scn_{name}_{isa or self.instruction_set}"]
        function.argtypes = argtypes
        function.restype = restype  # pyright: ignore[reportAttributeAccessIssue]
        return function


def _find() -> Path | str:
    """Return the library's path, or why there is none."""
    override = os.environ.get(PATH_VARIABLE)
    if override == "off":
        return f"switched off by {PATH_VARIABLE}=off"
    if override:
        return Path(override)
    spec = importlib.util.find_spec("spiking_centernet._native")
    if spec is None or spec.origin is None:
        return "not built: no C compiler was found when the package was installed"
    return Path(spec.origin)


@cache
def _load() -> Native | str:
    path = _find()
    if isinstance(path, str):
        return path
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"{path} does not load: {error}"
    library.scn_instruction_sets.restype = ctypes.c_char_p
    sets = tuple(library.scn_instruction_sets().decode().split())
    chosen = os.environ.get(ISA_VARIABLE) or sets[0]
    if chosen not in sets:
        raise ConfigError(f"{ISA_VARIABLE}={chosen}: this processor runs {', '.join(sets)}")
    return Native(path, sets, chosen, library)


def native() -> Native | None:
    """Return the native library, None where there is none.

    Raises:
        ConfigError: the environment asks for an instruction set that this processor lacks.
    """
    loaded = _load()
    return loaded if isinstance(loaded, Native) else None


def why_missing() -> str | None:
    """Return why there is no native library, None where there is one."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None
