"""What these scripts share: their command line, and compiling before time is measured.

How they sample is the package's, `shmreclaim.experiments.bench`.
"""

import argparse
import sys

from shmreclaim.executions import native
from shmreclaim.machine.compile import link
from shmreclaim.machine.process import machine_description


def arguments(description: str) -> argparse.ArgumentParser:
    """Make a parser with the two options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it works, not to be quoted")
    return parser


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


def prepare() -> None:
    """Compile what the cache lacks, and load everything: from here on nothing is compiled while time is measured."""

    def progress(done: int, total: int) -> None:
        if done == 1 or done * 4 // total > (done - 1) * 4 // total:
            say(f"compiling, {done} of {total} functions")

    native.prepare(progress)
    link()


def machine_line() -> str:
    """Where it was measured, for the first line of a table."""
    about = machine_description()
    return f"{about['cores']} cores of {about['cpu']} ({about['architecture']}, Linux {about['kernel']})"
