"""Random and mutated scenario files: a workload or a UsageError, nothing else, and soon."""

import contextlib
from importlib.resources import files

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmreclaim.errors import UsageError
from shmreclaim.workload import load_scenario
from shmreclaim.workload.scenario import preset_names

FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
PRESETS = [(files("shmreclaim.workload") / "presets" / f"{name}.toml").read_text("utf-8") for name in preset_names()]

values = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["9" * 5000, "0x" + "f" * 5000, "1e999", "nan", "-inf", "true", "1979-05-27", "[]", "{}", '"x"', ""]
    ),
    st.builds("[".__mul__, st.integers(1, 3000)),
)
keys = st.one_of(st.sampled_from(["name", "generator", "memory", "parameters", "cycles"]), st.text(max_size=20))
dotted = st.builds(lambda key, n: ".".join([key or "a"] * n), keys, st.integers(1, 2000))


@FAST
@given(preset=st.sampled_from(PRESETS), at=st.integers(0, 2000), key=dotted, value=values, cut=st.integers(0, 60))
def test_a_line_put_anywhere_gives_a_workload_or_an_error_of_ours(tmp_path, preset, at, key, value, cut):
    """Numbers beyond reason, keys of thousands of parts, brackets that never close, a piece lost."""
    at %= len(preset)
    path = tmp_path / "mutated.toml"
    path.write_text(f"{preset[:at]}\n{key} = {value}\n{preset[at + cut :]}", "utf-8", "replace")
    with contextlib.suppress(UsageError):
        load_scenario(str(path), cpus=2, nodes=1, seed=0)


@FAST
@given(content=st.binary(max_size=3000))
def test_no_bytes_are_anything_else(tmp_path, content):
    """Not even those that are no text."""
    path = tmp_path / "noise.toml"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        load_scenario(str(path), cpus=1, nodes=1, seed=0)
