"""H10 and H16: simplicity by proxies, and the trade that the thread argued about."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.growth import MEMCGS, growth_holds, quiet_mounts
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import EDGE, SEED, Row, add, by_rows, cache, mkdir, mount, umount
from shmreclaim.workload.ops import Workload

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

PAGES, HOLDERS, MOUNTS, FILLS, RUNS = 512, 4, 4000, 40_000, 3
RUN_S = 0.3
SLAB = (0.0, 0.5, 0.9, 1.0)
PLAUSIBLE = 0.9
"""The most of memory that is taken to be slab in a machine that somebody would run."""
PERCENT = 1.0
"""Registrations more that fail, of all, from which on it is a loss."""


class Price(NamedTuple):
    """What allocating ids costs under a design."""

    failed: dict[float, float]
    """Mounts that failed, in percent, by the share of memory that is slab."""
    reclaims: int
    """Reclaims entered with shrinker_rwsem held for write."""
    longest_hold_us: float
    """Of shrinker_rwsem for write, in a mount that grows the maps of many memcgs."""


def trade_rule(v1: Price, proposed: Price, simpler: str) -> Finding:
    """Holds if the loss is none up to 90 % slab, and the benefit is there: the proposed design is simpler by H10.

    The loss is how many more of 100 mounts fail than under v1, which may reclaim slab; none is 1 at most. Refuted if it
    is more at any share up to that, or the design is not simpler. Where no reclaim was entered under the lock, or H10
    cannot tell, neither can this.
    """
    loss = {slab: proposed.failed[slab] - v1.failed[slab] for slab in proposed.failed}
    most = max(more for slab, more in loss.items() if slab <= PLAUSIBLE)
    why = (
        f"up to {PLAUSIBLE:.0%} slab {most:.3g} of 100 mounts more failed than under {V1} at most, in all slab "
        f"{loss[1.0]:.3g}; reclaims under the lock: {proposed.reclaims:,}; that it is simpler: {simpler}"
    )
    if most > PERCENT or simpler == REFUTED:
        return Finding(REFUTED, why)
    return Finding(HOLDS if proposed.reclaims and simpler == HOLDS else CANNOT_TELL, why)


def filled(slab: float) -> Workload:
    """Mounts and unmounts at the edge of an IDR node, in memory kept full, `slab` of it objects, else page cache.

    EDGE others live, so that each id needs memory. Another CPU keeps it full.
    """
    memcgs = [1 + k for k in range(HOLDERS)]
    setup: list[Row] = [*(mkdir(k) for k in memcgs), *(mount(k) for k in range(EDGE))]
    objects, pages = int(PAGES * slab * 4096 / 192) // HOLDERS, int(PAGES * (1 - slab)) // HOLDERS
    setup += [add(k, k - 1, objects) for k in memcgs if objects] + [cache(k, pages) for k in memcgs if pages]
    rng = random.Random(SEED)
    more: list[Row] = []
    for _ in range(FILLS):
        memcg = 1 + rng.randrange(HOLDERS)
        by_slab = rng.random() < slab
        more.append(add(memcg, memcg - 1, 1 + rng.randrange(40)) if by_slab else cache(memcg, 1 + rng.randrange(3)))
    mounts = [row for _ in range(MOUNTS) for row in (mount(EDGE), umount(EDGE))]
    return by_rows(f"kept full, {slab:.0%} slab", setup, mounts, more, pages=PAGES)


def prices(lab: Lab) -> dict[str, Price]:
    """What ids cost v1, the proposal and what was merged, in memory that is full."""
    failed: dict[str, dict[float, float]] = {design: {} for design in (V1, PROPOSED, MERGED)}
    reclaims = dict.fromkeys(failed, 0)
    for slab in SLAB:
        for design, records in lab.measure(tuple(failed), filled(slab), repeat=RUNS, seconds=RUN_S).items():
            lost = sum(sum(record.ops["register"].failed.values()) for record in records)
            failed[design][slab] = 100 * lost / (lost + sum(record.ops["register"].count for record in records))
            reclaims[design] += sum(record.events["reclaims_under_write"] for record in records)
    held = lab.once(growth_holds)
    return {d: Price(failed[d], reclaims[d], max(run[1] for run in held[d]) / 1e3) for d in failed}


def _h16(lab: Lab) -> Finding:
    simple, price = lab.once(proxies), prices(lab)
    finding = trade_rule(price[V1], price[PROPOSED], simplicity_rule(simple[V1], simple[PROPOSED]).verdict)
    table = _table(simple)
    for design, each in price.items():
        row: dict[str, float] = {
            f"failed, {slab:.0%} slab, %": round(percent, 2) for slab, percent in each.failed.items()
        }
        table[design] = {
            **row,
            "reclaims under the lock": each.reclaims,
            "longest hold, µs": round(each.longest_hold_us, 2),
            **table[design],
        }
    # One row a figure: there are more figures than designs.
    names = list(table[V1])
    finding.figures["loss and benefit"] = {name: {design: table[design][name] for design in table} for name in names}
    return finding


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
        f"{MOUNTS:,} mounts, each of which needs memory for its id, in {PAGES} pages that another CPU keeps full, "
        f"{', '.join(f'{s:.0%}' for s in SLAB)} of it slab, {RUNS} times each under {V1}, {PROPOSED} and {MERGED}; "
        "and the figures of H9 and H10.",
        worded(trade_rule),
        _h16,
    ),
)
