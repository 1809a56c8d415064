"""Run the command in a process of its own, as a user would."""

import os
import subprocess
import sys
from pathlib import Path

import shmreclaim
from tests.conftest import segments_of

PACKAGE_ROOT = Path(shmreclaim.__file__).parent.parent
"""Wherever the tests imported the package from, the command runs the same one."""
TESTS_ROOT = Path(__file__).parents[2]

FAKED = """
import sys
import shmreclaim.experiments.compare as experiment
from shmreclaim import errors
from shmreclaim.cli import main
def compare(options, progress):
{body}
experiment.compare = compare
sys.exit(main())
"""


def environment() -> dict[str, str]:
    """The caller's, plain: no colours, a known width, the package under test first."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "SHMRECLAIM_DEBUG")}
    return kept | {"COLUMNS": "100", "PYTHONPATH": f"{PACKAGE_ROOT}:{TESTS_ROOT}", "TERM": "dumb"}


def start(*arguments: str, body: str = "", **options: object) -> subprocess.Popen[str]:
    """Start the command; where `body` is given, comparing is replaced by those statements."""
    source = FAKED.format(body="".join(f"    {line}\n" for line in body.splitlines()))
    return _start(*(["-c", source] if body else ["-m", "shmreclaim"]), *arguments, **options)


def start_probe(code: str, **options: object) -> subprocess.Popen[str]:
    """Start a program of a test's own."""
    return _start("-c", code, **options)


def _start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        env=environment(),
        cwd=PACKAGE_ROOT,
        text=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
    )


def run(*arguments: str, body: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and see that it left nothing in shared memory."""
    with start(*arguments, body=body, **options) as process:
        out, err = process.communicate(timeout=60)
    assert segments_of(process.pid) == []
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def probe(code: str, *, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program of a test's own to its end; where it is to `check`, that is exit code 0."""
    with start_probe(code, **options) as process:
        out, err = process.communicate(timeout=60)
    assert not check or process.returncode == 0, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
