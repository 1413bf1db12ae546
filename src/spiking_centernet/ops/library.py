"""The native kernels: finding the compiled library, choosing the instruction set, calling it.

The library is plain C called through ctypes, so one build serves every version of Python. It takes its threads from the
OpenMP runtime that torch has loaded: ``torch.set_num_threads`` governs it. Where it is missing (no compiler when the
package was installed), callers compute the same results by slower means, and a warning says so once. A library that is
there but was built from another version of the sources is an error: its structs would be read at the wrong places.
"""

import ctypes
import importlib.util
import os
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch  # noqa: F401  loads the OpenMP runtime that the library's symbols are resolved with

from spiking_centernet.errors import ConfigError, NativeLibraryError
from spiking_centernet.ops.structs import ABI_VERSION, facts

PATH_VARIABLE = "SCN_NATIVE"
"""Environment variable: the path of another build of the library, or "off" to do without it."""

ISA_VARIABLE = "SCN_ISA"
"""Environment variable: the instruction set to use instead of the best one."""


REBUILD = (
    "in a clone run `pip install --force-reinstall --no-deps .`, with -e before the dot if it was installed so; "
    "elsewhere install the wheel again"
)
"""How to get a library that fits."""

_MOST_FACTS = 1000
"""A library that lists more than this about itself is none of ours."""


@dataclass(frozen=True)
class Native:
    """The loaded library.

    Attributes:
        path: the file it was loaded from.
        instruction_sets: what this CPU can run, best first.
        instruction_set: the one in use.
    """

    path: Path
    instruction_sets: tuple[str, ...]
    instruction_set: str
    library: ctypes.CDLL

    def kernel(self, name: str, argtypes: list, restype: object = None, *, isa: str | None = None):
        """Return one C function, by default for the instruction set in use.

        Raises:
            NativeLibraryError: the library has no such function.
        """
        symbol = f"scn_{name}_{isa or self.instruction_set}"
        try:
            function = self.library[symbol]
        except AttributeError:
            raise _unfit(self.path, f"it has no function {symbol}") from None
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


def _unfit(path: Path, reason: str) -> NativeLibraryError:
    way_out = f"unset {PATH_VARIABLE}" if os.environ.get(PATH_VARIABLE) else f"set {PATH_VARIABLE}=off for slower means"
    return NativeLibraryError(f"{path} does not fit this version of the package: {reason}; {REBUILD}, or {way_out}")


def _check_abi(path: Path, library: ctypes.CDLL) -> None:
    """Compare what the library was compiled with and what it will be handed.

    Raises:
        NativeLibraryError: the library is not ours, or from another version of the sources.
    """
    try:
        version, next_fact = library.scn_abi_version, library.scn_abi_fact
    except AttributeError:
        raise _unfit(path, f"it does not say which ABI it has, and version {ABI_VERSION} is needed") from None
    version.argtypes, version.restype = [], ctypes.c_int64
    if version() != ABI_VERSION:
        raise _unfit(path, f"it has version {version()} of the ABI, and version {ABI_VERSION} is needed")
    next_fact.argtypes, next_fact.restype = [ctypes.c_int64, ctypes.POINTER(ctypes.c_int64)], ctypes.c_char_p
    compiled: dict[str, int] = {}
    value = ctypes.c_int64()
    for index in range(_MOST_FACTS):
        name = next_fact(index, ctypes.byref(value))
        if name is None:
            break
        compiled[name.decode(errors="replace")] = value.value
    expected = facts()
    for name in sorted(compiled.keys() | expected.keys()):
        if compiled.get(name) != expected.get(name):
            raise _unfit(path, f"{name} is {compiled.get(name)} in it, and {expected.get(name)} is needed")


@cache
def _load() -> Native | str:
    path = _find()
    if isinstance(path, str):
        return path
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _unfit(path, f"it does not load ({error})") from error
    _check_abi(path, library)
    library.scn_instruction_sets.restype = ctypes.c_char_p
    sets = tuple(library.scn_instruction_sets().decode().split())
    chosen = os.environ.get(ISA_VARIABLE) or sets[0]
    if chosen not in sets:
        raise ConfigError(f"{ISA_VARIABLE}={chosen}: this CPU runs {', '.join(sets)}")
    return Native(path, sets, chosen, library)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"no native kernels ({reason}): torch computes the same, several times slower; scn doctor says how to get them",
        RuntimeWarning,
        stacklevel=3,
    )


def native() -> Native | None:
    """Return the native library, None where there is none; warn once unless it was switched off.

    Raises:
        ConfigError: the environment asks for an instruction set that this CPU lacks.
        NativeLibraryError: there is a library, but it does not load or was built from other sources.
    """
    loaded = _load()
    if isinstance(loaded, Native):
        return loaded
    if os.environ.get(PATH_VARIABLE) != "off":
        _warn_once(loaded)
    return None


def why_missing() -> str | None:
    """Return why there is no native library, None where there is one.

    Raises:
        ConfigError: the environment asks for an instruction set that this CPU lacks.
        NativeLibraryError: there is a library, but it does not load or was built from other sources.
    """
    loaded = _load()
    return loaded if isinstance(loaded, str) else None
