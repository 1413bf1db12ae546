"""Writing files so that a reader never meets half of one."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spiking_centernet.errors import ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where no more bytes go."""

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")
"""Names of files that are being written."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``path`` when the block ends well and vanishes when it does not.

    The temporary file lies in the same folder (made if missing) and keeps the suffix, so that writers which choose a
    format by suffix work. Its bytes are on disk before the rename.

    Args:
        path: the file to create or replace.

    Yields:
        the path to write to; the block must create a file there.

    Raises:
        FileNotFoundError: the block ended without creating the file.
        OSError: the disk is full; names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        with naming_full_disk(path):
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_to_disk(path.parent)


def require_writable_folder(folder: str | os.PathLike[str]) -> Path:
    """Return a folder after making it and seeing that files can be written there, before long work is done for them.

    Raises:
        ConfigError: it is a file, or may not be written to.
    """
    folder = Path(folder)
    probe = folder / f".probe.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise ConfigError(
            f"{folder}: is a file, where a folder for the results is needed; choose another --out"
        ) from error
    except NotADirectoryError as error:
        raise ConfigError(f"{folder}: lies in a file, not in a folder; choose another --out") from error
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"{folder}: cannot be written to ({why}); choose another --out, or allow writing") from error
    return folder


@contextmanager
def naming_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let the error of a full disk say which file found no room: the system does not.

    Raises:
        OSError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: {path} was not written, what stood there before is intact; make room and run it again",
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; nobody else may be writing to the folder."""
    for path in folder.glob(".*"):
        if path.is_file() and TEMPORARY.fullmatch(path.name):
            path.unlink()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
