"""Files of users: copies of davydov.py with a change, and what is said of those that are refused."""

from pathlib import Path

import shmreclaim.designs.davydov as davydov_module
from tests.executions.command import compare

DAVYDOV = Path(str(davydov_module.__file__)).read_text()
EXAMPLE = Path(__file__).parents[2] / "docs/examples/ids_under_map_mutex.py"
QUICK = ("--scenario", "containers", "--repeat", "1")


def write(folder: Path, old: str = "", new: str = "", name: str = "mine.py") -> Path:
    """A copy of davydov.py with one change."""
    assert old in DAVYDOV
    path = folder / name
    path.write_text(DAVYDOV.replace(old, new, 1) if old else DAVYDOV)
    return path


def line_of(path: Path, text: str) -> int:
    """The first line of a file that contains `text`."""
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def refused(path: Path, *lines: str) -> str:
    """Run it; it must end with exit code 1, such lines and no traceback; gives stderr."""
    code, out, err = compare(*QUICK, "--designs", str(path))
    assert (code, out) == (1, ""), err
    assert f"{path} cannot be used as a design\n" in err
    for line in lines:
        assert line in err.splitlines(), err
    assert "Traceback" not in err
    return err
