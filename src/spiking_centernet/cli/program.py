"""The ``scn`` command: parse, call a command's function, report errors in one line."""

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

from spiking_centernet.errors import SpikingCenterNetError
from spiking_centernet.utils import progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 2 after an error in one line.

    With ``SCN_DEBUG=1`` in the environment errors show where they came from.
    """
    from spiking_centernet.cli import parser
    from spiking_centernet.cli.commands import COMMANDS

    debug = os.environ.get("SCN_DEBUG") == "1"
    command = None
    try:
        argv = sys.argv[1:] if argv is None else argv
        level = logging.WARNING if "--quiet" in argv else logging.DEBUG if debug else logging.INFO
        with warnings.catch_warnings(), _messages(level):
            if not debug:
                warnings.showwarning = lambda message, *_, **__: _warn(parser.in_options(str(message), command))
            command, arguments = parser.parse(argv)
            COMMANDS[command](**arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, such as head, has seen enough. What is still buffered must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (SpikingCenterNetError, parser.ArgumentError, OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        sys.stderr.write(f"scn: error: {parser.in_options(_one_line(error), command)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("scn: stopped\n")
        return 130
    return 0


@contextlib.contextmanager
def _messages(level: int) -> Iterator[None]:
    """Show the package's log, and with it bars, on standard error while a command runs."""
    logger, handler = logging.getLogger("spiking_centernet"), _Handler()
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        progress.close()


class _Handler(logging.Handler):
    """Writes messages as they are and marks warnings, to what is standard error then: a bar may lie over it."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = f"scn: {record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        sys.stderr.write(f"{mark}{self.format(record)}\n")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text}; see scn --help" if type(error).__module__ == "argparse" else text


def _warn(message: str) -> None:
    sys.stderr.write(f"scn: warning: {' '.join(message.split())}\n")


if __name__ == "__main__":
    sys.exit(main())
