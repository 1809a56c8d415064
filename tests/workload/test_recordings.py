"""The shipped recordings, and the drops that can be told in one; counted a second time in the plain text."""

import gzip
from importlib.resources import files

import pytest

from shmreclaim.errors import UsageError
from shmreclaim.workload import recordings


def _text(name):
    return gzip.decompress((files("shmreclaim.workload") / "data" / name).read_bytes()).decode()


def test_each_drop_of_the_shipped_recording_is_told_with_its_calls():
    """The five buffers of the file were saved one a drop: their headers say how many events each made."""
    drops = recordings.recorded_drops(recordings.read_shipped(recordings.DROPS))
    written = [
        int(line.rpartition("/")[2].split()[0]) for line in _text(recordings.DROPS).split("\n") if "entries-w" in line
    ]
    assert [drop.calls for drop in drops] == [number // 2 for number in written] == [4054, 2029, 5076, 3045, 6090]


def test_what_a_drop_freed_is_the_sum_of_its_calls():
    """Every end event of that file belongs to one of the drops."""
    lines = [line for line in _text(recordings.DROPS).split("\n") if "mm_shrink_slab_end" in line]
    drops = recordings.recorded_drops(recordings.read_shipped(recordings.DROPS))
    assert sum(drop.freed for drop in drops) == sum(int(line.split()[-1]) for line in lines) == 7118
    assert drops == tuple(sorted(drops))


def test_the_other_recording_has_the_three_drops_of_its_program():
    """Reclaim inside memcgs at priority 0 is no drop."""
    drops = recordings.recorded_drops(recordings.read_shipped(recordings.CONTAINERS))
    assert [drop.calls for drop in drops] == [303, 118, 52]


def test_a_file_that_is_not_there_is_one_message(tmp_path):
    """With its name."""
    with pytest.raises(UsageError, match="nothing-here' cannot be read: No such file"):
        recordings.read_file(tmp_path / "nothing-here")
