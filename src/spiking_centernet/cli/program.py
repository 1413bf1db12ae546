"""The ``scn`` command: parse, call a command's function, report errors in one line."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from spiking_centernet.errors import SpikingCenterNetError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 2 after an error in one line.

    With ``SCN_DEBUG=1`` in the environment errors show where they came from.
    """
    from spiking_centernet.cli import parser
    from spiking_centernet.cli.commands import COMMANDS

    debug = os.environ.get("SCN_DEBUG") == "1"
    try:
        with warnings.catch_warnings(), _messages(debug=debug):
            if not debug:
                warnings.showwarning = _warn
            command, arguments = parser.parse(sys.argv[1:] if argv is None else argv)
            COMMANDS[command](**arguments)
    except (SpikingCenterNetError, parser.ArgumentError, OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        sys.stderr.write(f"scn: error: {_one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("scn: stopped\n")
        return 130
    return 0


class _messages:  # noqa: N801
    """Shows the package's log on standard error while a command runs: messages as they are, warnings marked."""

    def __init__(self, *, debug: bool):
        self._logger = logging.getLogger("spiking_centernet")
        self._level = logging.DEBUG if debug else logging.INFO
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(_Formatter())

    def __enter__(self) -> None:
        self._before = self._logger.level
        self._logger.setLevel(self._level)
        self._logger.addHandler(self._handler)

    def __exit__(self, *failure: object) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._before)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"scn: {record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text}; see scn --help" if type(error).__module__ == "argparse" else text


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"scn: warning: {' '.join(str(message).split())}\n")


if __name__ == "__main__":
    sys.exit(main())
