"""Mutants, stressed: what a mutant changes is compiled first, then boots follow each other until it is found out.

Each boot is short and has a seed of its own, since ids and maps grow only while a machine is young.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

from shmreclaim.executions import admission, stress
from shmreclaim.mutants import Mutant
from shmreclaim.plugins import mutation
from shmreclaim.result import MutantResult
from shmreclaim.workload.ops import Workload

TRIED_S = 30.0
"""How long a mutant may hide."""


def compile_mutant(mutant: Mutant, tell: Callable[[str], None]) -> None:
    """Compile what a mutant changes, in a process of its own; nothing if it is a switch."""
    if mutant.file:
        admission.answer_of(_compile, (mutant.name,), tell)


def _compile(name: str, tell: Callable[[str], None]) -> None:
    tell("compiling it")
    mutation.compile_mutant(name)


def hunt(
    mutant: Mutant, workload: Callable[[str, int], Workload], plan: stress.Plan, tell: Callable[[stress.Snapshot], None]
) -> MutantResult:
    """Stress a mutant until it is found out, or for TRIED_S; `workload` makes one of a scenario and a seed."""
    name = mutant.name if mutant.file else ""
    began, by = time.monotonic(), ""
    for seed in itertools.count(plan.chaos.seed):
        left = TRIED_S - (time.monotonic() - began)
        if by or left <= 0:
            break
        chaos = replace(plan.chaos, seed=seed)
        boot = replace(plan, seconds=min(mutant.boot_s, max(left, 0.2)), ops=None, chaos=chaos, mutant=name, keep=False)
        found = stress.run(workload(mutant.scenario, seed), mutant.design, boot, tell).evidence
        by = _verdict(found.failed, found.violations) if found else ""
    return MutantResult(
        broken=mutant.broken,
        design=mutant.design,
        expected=mutant.by,
        caught=bool(by),
        by=by,
        seconds=time.monotonic() - began,
        checker=mutant.checker,
    )


def _verdict(failed: str, violations: list[str]) -> str:
    return ", after: ".join([*([failed] if failed != "violation" else []), *violations[:1]])
