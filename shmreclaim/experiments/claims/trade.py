"""H10 and H16: simplicity by proxies, and the trade that the thread argued about."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.full_memory import Tried, mounts_that_stay, nodes_an_id, sweep_crowd, sweep_ids
from shmreclaim.experiments.claims.growth import MEMCGS, growth_holds, quiet_mounts
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.pressure import loss_up_to

V1, PROPOSED, MERGED = "tkhai_v1", "davydov", "v4_19"

# --- H10 ---------------------------------------------------------------------------------------------

ERRNOS = ("ENOMEM", "EAGAIN", "ENOSPC", "EINVAL")
LOCKS = ("rwsem_init", "mutex_init", "spin_lock_init", "srcu_init")


class Proxies(NamedTuple):
    """What stands for how simple a design is; less is simpler."""

    locks: int
    lines: int
    """Of code: no docstring, comment or blank line."""
    failure_exits: int
    acquisitions: float
    """Of the design's locks for write, in a mount without growth."""
    in_growth: int
    """Of shrinker_rwsem, in a mount that grows the maps."""


def simplicity_rule(v1: Proxies, proposed: Proxies) -> Finding:
    """Holds if of five proxies more are smaller in the proposed design than in v1, refuted if more are larger.

    The proxies: locks; lines of code; places where a failure leaves; locks taken for write in a mount without growth;
    shrinker_rwsem taken for write in one with growth. Equal ones do not count; as many of the one as of the other
    tell nothing.
    """
    names = {"locks": "locks", "lines": "lines", "failure_exits": "failure exits"}
    names |= {"acquisitions": "locks taken", "in_growth": "locks taken in growth"}
    pairs = {names[name]: (getattr(v1, name), getattr(proposed, name)) for name in Proxies._fields}
    smaller = [name for name, (old, new) in pairs.items() if new < old]
    larger = [name for name, (old, new) in pairs.items() if new > old]
    told = "; ".join(f"{name} {new:g} against {old:g}" for name, (old, new) in pairs.items())
    verdict = HOLDS if len(smaller) > len(larger) else REFUTED if len(larger) > len(smaller) else CANNOT_TELL
    return Finding(verdict, f"{PROPOSED} against {V1}: {told}")


def source_of(design: str) -> str:
    """The text of a built-in design."""
    return (files("shmreclaim.designs") / f"{design}.py").read_text(encoding="utf-8")


def locks_in(tree: ast.Module) -> int:
    """How many locks a design makes."""
    return sum(isinstance(node, ast.Call) and _called(node) in LOCKS for node in ast.walk(tree))


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def lines_in(source: str) -> int:
    """How many lines have code on them: neither blank, nor comment, nor docstring."""
    left_out = {n for text in _docstrings(ast.parse(source)) for n in range(text.lineno, (text.end_lineno or 0) + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for n, line in lines if n not in left_out)


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    """Every text that stands as a statement, be it of a module, a function or a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def failure_exits_in(tree: ast.Module) -> int:
    """Places where a failure begins to leave: a negated errno; `return 0`, where the function ends with `return 1`."""
    errnos = sum(
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Name)
        and node.operand.id in ERRNOS
        for node in ast.walk(tree)
    )
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    yes_or_no = [function for function in functions if _returns(function.body[-1], 1)]
    return errnos + sum(_returns(node, 0) for function in yes_or_no for node in ast.walk(function))


def _returns(node: ast.AST, value: int) -> bool:
    return isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and node.value.value == value


def proxies(lab: Lab) -> dict[str, Proxies]:
    """What stands for the simplicity of v1, of the proposal and of what was merged; shared by H10 and H16."""
    quiet, grown = lab.once(quiet_mounts), lab.once(growth_holds)
    found = {}
    for design in (V1, PROPOSED, MERGED):
        source = source_of(design)
        tree = ast.parse(source)
        found[design] = Proxies(
            locks_in(tree),
            lines_in(source),
            failure_exits_in(tree),
            sum(quiet[design].values()),
            grown[design][0][0],
        )
    return found


def _table(found: Mapping[str, Proxies]) -> dict[str, dict[str, float]]:
    return {
        design: {
            "locks": each.locks,
            "lines": each.lines,
            "failure exits": each.failure_exits,
            "locks taken, mount": round(each.acquisitions, 2),
            "rwsem taken, growth": each.in_growth,
        }
        for design, each in found.items()
    }


def _h10(lab: Lab) -> Finding:
    found = lab.once(proxies)
    finding = simplicity_rule(found[V1], found[PROPOSED])
    finding.figures["by design"] = _table(found)
    return finding


# --- H16 ---------------------------------------------------------------------------------------------

MOST = 0.75
"""The largest share of slab in the sweep of H5 that is not all: further than H5 itself goes."""


def trade_rule(loss: Finding, simpler: Finding) -> Finding:
    """Holds if the loss is small by the rule of H5, up to 75 % slab, and the benefit is there by that of H10.

    Refuted if the loss is not small or the proposed design not simpler; else, where one of them cannot be told, neither
    can this.
    """
    verdicts = (loss.verdict, simpler.verdict)
    verdict = REFUTED if REFUTED in verdicts else CANNOT_TELL if CANNOT_TELL in verdicts else HOLDS
    why = f"that the loss is small up to {MOST:.0%} slab: {loss.verdict}, {loss.why}; that it is simpler: "
    return Finding(verdict, why + simpler.verdict)


def _h16(lab: Lab) -> Finding:
    simple, held = lab.once(proxies), lab.once(growth_holds)
    ids, crowd = lab.once(sweep_ids), lab.once(sweep_crowd)
    loss = loss_up_to(MOST, ids, crowd, nodes_an_id(lab.once(mounts_that_stay)))
    finding = trade_rule(loss, simplicity_rule(simple[V1], simple[PROPOSED]))
    table = {design: _costs(ids[design]) | row for design, row in _table(simple).items()}
    for design, row in table.items():
        row["longest hold, growth, µs"] = round(max(run[1] for run in held[design]) / 1e3, 2)
    # One row a figure: there are more figures than designs.
    finding.figures["loss and benefit"] = {n: {design: table[design][n] for design in table} for n in table[V1]}
    return finding


def _costs(by_share: Mapping[float, Tried]) -> dict[str, object]:
    """What failed of the mounts that reclaimed, under the lock where it is held."""
    return {
        f"failed of those that reclaim, {slab:.0%} slab": f"{sum(each.lost)} of {sum(each.pressed)}"
        for slab, each in by_share.items()
    }


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H10",
        "Vladimir Davydov, 28 March 2018",
        "the decisive gain of ids under shrinker_rwsem is that the code is simpler",
        f"The sources of {V1}, {PROPOSED} and {MERGED}, counted; mounts without growth, and the runs of H9, one growth "
        f"of the maps of {MEMCGS} memcgs. The variants' switches are in the sources of all three.",
        worded(simplicity_rule),
        _h10,
    ),
    Claim(
        "H16",
        "Vladimir Davydov, 27 and 28 March 2018",
        "to forbid the reclaim of slab while an id is allocated is an acceptable loss for the benefit",
        f"The runs of H5, H9 and H10, side by side for {V1}, {PROPOSED} and {MERGED}.",
        worded(trade_rule),
        _h16,
    ),
)
