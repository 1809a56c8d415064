"""A scenario as a workload: a TOML file that names a generator, its parameters and the memory: `load_scenario`.

    name = "my-storm"                 # how results call it
    description = "..."               # optional
    generator = "mailing-list"        # churn, containers, mailing-list or starvation
    duration_ms = 1000                # planned length in open loop

    [memory]                          # all optional
    pages_per_node = 4096
    watermark_min_permille = 16
    watermark_low_permille = 20
    watermark_high_permille = 24

    [parameters]                      # the generator's own, all optional
    slab_share = 0.5

Presets are files of this form that the package ships; to make another one, copy a preset and change it. Same file,
CPUs, nodes and seed: same streams. A wrong key, type or value is refused with its place and what is allowed.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shmreclaim.errors import UsageError
from shmreclaim.workload.generators import GENERATORS
from shmreclaim.workload.generators.script import Stage
from shmreclaim.workload.ops import Memory, Workload
from shmreclaim.workload.shape import Shape
from shmreclaim.workload.validation import Place, checked, did_you_mean

MAX_FILE = 1 << 16
MAX_LINE = 1 << 13
"""Bytes. tomllib keeps every beginning of a dotted key, so that one of 400 KB takes all memory there is."""

_Permille = Annotated[int, Meta(ge=1, le=900, description="a watermark in thousandths of the node's pages")]


class MemoryTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What [memory] may hold; the defaults are about the kernel's, min : low : high = 4 : 5 : 6."""

    pages_per_node: Annotated[int, Meta(ge=256, le=1 << 24, description="pages of 4096 bytes on each node")] = 4096
    watermark_min_permille: _Permille = 16
    watermark_low_permille: _Permille = 20
    watermark_high_permille: _Permille = 24


class ScenarioFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a scenario file may hold at its top level."""

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    generator: Annotated[str, Meta(min_length=1, max_length=80)]
    description: Annotated[str, Meta(max_length=2000)] = ""
    duration_ms: Annotated[int, Meta(ge=1, le=3_600_000, description="the planned length in open loop")] = 1000
    memory: MemoryTable = MemoryTable()
    parameters: dict[str, object] = {}


def preset_names() -> list[str]:
    """Name the scenarios that the package ships."""
    entries = (files("shmreclaim.workload") / "presets").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def load_scenario(
    name_or_path: str, *, cpus: int, nodes: int, seed: int, parameters: Mapping[str, object] | None = None
) -> Workload:
    """Make the workload of a preset or of a TOML file; `parameters` replace entries of its [parameters]."""
    shape = Shape(cpus, nodes, seed)
    place = Place(name_or_path)
    scenario = checked(ScenarioFile, _table(name_or_path), place)
    generator = GENERATORS.get(scenario.generator)
    if generator is None:
        hint = did_you_mean(scenario.generator, GENERATORS)
        raise UsageError(
            f"{place} generator = {scenario.generator!r}: there is no such generator{hint}",
            remedy=f"Allowed here: {', '.join(GENERATORS)}.",
        )
    chosen = checked(generator.parameters, {**scenario.parameters, **(parameters or {})}, place.inside("parameters"))
    stage = Stage(shape, _memory(scenario.memory, place.inside("memory")), scenario.duration_ms * 1_000_000)
    try:
        generator.generate(chosen, stage)
    except UsageError as error:
        raise UsageError(f"{name_or_path}: {error.what}", cause=error.cause, remedy=error.remedy) from None
    return _workload(scenario, chosen, stage)


def _workload(scenario: ScenarioFile, chosen: msgspec.Struct, stage: Stage) -> Workload:
    about = {"generator": scenario.generator, "description": scenario.description, "duration_ms": scenario.duration_ms}
    return Workload(
        kind="scenario",
        name=scenario.name,
        seed=stage.shape.seed,
        nodes=stage.shape.nodes,
        memory=stage.memory,
        n_memcgs=stage.handles.memcgs,
        n_shrinkers=stage.handles.shrinkers,
        setup=stage.setup_stream(),
        streams=stage.streams(),
        parameters={**about, **msgspec.structs.asdict(chosen)},
    )


def _memory(table: MemoryTable, place: Place) -> Memory:
    permilles = table.watermark_min_permille, table.watermark_low_permille, table.watermark_high_permille
    if sorted(permilles) != list(permilles):
        raise UsageError(
            f"{place} watermarks are min {permilles[0]}, low {permilles[1]}, high {permilles[2]} permille",
            remedy="They must not fall: watermark_min_permille <= watermark_low_permille <= watermark_high_permille.",
        )
    return Memory(table.pages_per_node, *(table.pages_per_node * permille // 1000 for permille in permilles))


def _table(name_or_path: str) -> dict[str, object]:
    try:
        return tomllib.loads(_text(name_or_path))
    except ValueError as error:  # tomllib's own, or int()'s of a number of thousands of digits
        remedy = "Strings need quotes; tables look like [memory]; numbers stand alone."
        raise UsageError(f"{name_or_path} is not valid TOML: {error}", remedy=remedy) from None
    except RecursionError:
        raise UsageError(f"{name_or_path} is nested too deeply", remedy="A scenario has tables of one level.") from None


def _text(name_or_path: str) -> str:
    if not (name_or_path.endswith(".toml") or "/" in name_or_path):
        return _preset(name_or_path)
    try:
        with Path(name_or_path).open("rb") as source:
            content = source.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise UsageError(f"{name_or_path} has more than {MAX_FILE} bytes", remedy="A scenario has dozens of lines.")
        if max(map(len, content.split(b"\n"))) > MAX_LINE:
            raise UsageError(
                f"{name_or_path} has a line of more than {MAX_LINE} bytes", remedy="Break it into several."
            )
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The scenario {name_or_path!r} cannot be read: {error}",
            remedy=f"Give a TOML file in UTF-8, or a preset: {', '.join(preset_names())}.",
        ) from None


def _preset(name: str) -> str:
    names = preset_names()
    if name not in names:
        raise UsageError(
            f"There is no preset {name[:80]!r}{did_you_mean(name, names)}",
            cause=f"The presets are: {', '.join(names)}.",
            remedy="For a file of your own, give a path that ends with .toml or holds a '/'.",
        )
    return (files("shmreclaim.workload") / "presets" / f"{name}.toml").read_text("utf-8")
