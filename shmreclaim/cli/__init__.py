"""The command line: parsing only, and the one place where an exception becomes a message and an exit code.

Exit codes: 0 ok, 1 usage or environment, 2 an invariant broke, 3 inconclusive, 4 a threshold failed, 5 our own fault;
129, 130 and 143 after SIGHUP, Ctrl-C and SIGTERM. Nothing heavy is imported before a command runs: `--help` answers at
once.
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from shmreclaim.cli import output, signals
from shmreclaim.errors import InternalError, SetupError, ShmreclaimError, UsageError

DEBUG = "SHMRECLAIM_DEBUG"

NO_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "1")
"""numpy's OpenBLAS, which nothing here uses, starts a thread for each core; if it may not, it sends itself SIGINT."""

_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
"""What a machine says that has no more: disk, quota, memory, files, processes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        signals.unwind_in_order()
        os.environ.setdefault(*NO_BLAS_THREADS)
        output.take_any_name()
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:  # before the handlers stood
        return signals.INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except InternalError as error:
        return _fail_by_our_fault(error)
    except ShmreclaimError as error:
        output.complain(str(error))
        return error.exit_code
    except OSError as error:
        if error.errno not in _EXHAUSTED:
            return _fail_by_our_fault(error)
        output.complain(f"the machine refused: {error}\nFree some of it, or ask for less.")
        return SetupError.exit_code
    except Exception as error:
        return _fail_by_our_fault(error)


def _run(arguments: list[str]) -> int:
    import typer

    from shmreclaim.cli.app import app

    command = typer.main.get_command(app)
    try:
        return int(command(arguments, prog_name="shmreclaim", standalone_mode=False) or 0)
    except Exception as error:
        # Only click's own errors have this method; typer does not export their class under a name that lasts.
        if not hasattr(error, "format_message"):
            raise
        raise UsageError(error.format_message(), remedy=_see_help(error)) from None


def _see_help(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"See: {context.command_path if context else 'shmreclaim'} --help"


def _fail_by_our_fault(error: Exception) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exc()
    output.complain(
        f"{type(error).__name__}: {error}\n"
        "This is a fault of shmreclaim, not yours.\n"
        f"Please report it with what {DEBUG}=1 shmreclaim {' '.join(sys.argv[1:])} prints."
    )
    return InternalError.exit_code
