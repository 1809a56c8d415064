"""What there is to choose from: designs and preset scenarios, each with one line that says what it is."""

import ast
import tomllib
from importlib.resources import files

from shmreclaim import designs


def list_designs() -> dict[str, str]:
    """Every design's name with the first line of its docstring, read from the source: no design is imported."""
    folder = files(designs)
    return {name: _first_line(folder.joinpath(f"{name}.py").read_text(encoding="utf-8")) for name in designs.NAMES}


def _first_line(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def list_scenarios() -> dict[str, str]:
    """Every preset's name with its `description`."""
    presets = files("shmreclaim.workload").joinpath("presets")
    found = {}
    for entry in sorted(presets.iterdir(), key=lambda entry: entry.name):
        name, dot, kind = entry.name.rpartition(".")
        if dot and kind == "toml":
            found[name] = str(tomllib.loads(entry.read_text(encoding="utf-8")).get("description", ""))
    return found
