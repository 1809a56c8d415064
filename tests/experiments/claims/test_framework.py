"""What all claims share: which there are, how a hang is read, what rules are made of."""

import pytest

from shmreclaim.errors import UsageError
from shmreclaim.executions.stall import Lock, Standing
from shmreclaim.experiments.claims import CLAIMS, NOT_RUN, choose
from shmreclaim.experiments.claims.claim import Finding, worded
from shmreclaim.experiments.claims.lab import Outcome, below, sound


def standing(who: str, holds: tuple[str, ...] = (), waits: str = "", op: str = "register", ms: int = 5) -> Standing:
    """A CPU that holds and waits for locks by name."""
    return Standing(
        who=who,
        done=False,
        op=op,
        op_ns=ms * 1_000_000,
        holds=tuple(Lock(name, "write", 1) for name in holds),
        waits=Lock(waits, "read", 1) if waits else None,
    )


def hang(*standings: Standing) -> Outcome:
    """A run that hung."""
    return Outcome("some_design", None, standings)


def test_every_hypothesis_is_run_or_has_a_reason() -> None:
    """H1 to H30, in order."""
    assert set(CLAIMS) | set(NOT_RUN) == {f"H{k}" for k in range(1, 31)}
    assert not set(CLAIMS) & set(NOT_RUN)
    assert list(CLAIMS) == sorted(CLAIMS, key=lambda number: int(number[1:]))


def test_every_claim_says_who_claimed_what_and_by_which_rule_it_is_judged() -> None:
    """In words, before it runs."""
    for claim in CLAIMS.values():
        for text in (claim.by, claim.says, claim.ran, claim.rule):
            assert len(text) > 10, claim.number


def test_numbers_are_taken_in_any_case_and_order_and_once() -> None:
    """All where none is named."""
    some = list(CLAIMS)[:2]
    assert choose([some[1].lower(), some[0], some[1]]) == tuple(some)
    assert choose([]) == tuple(CLAIMS)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("H99", "there is no claim 'H99'"),
        ("deadlock", "there is no claim 'DEADLOCK'"),
        ("H20", "H20 is not run here: "),
    ],
)
def test_other_numbers_are_refused_with_those_there_are(number: str, message: str) -> None:
    """And with the reason, where there is one."""
    with pytest.raises(UsageError) as refused:
        choose([number])
    assert message in str(refused.value)
    assert ", ".join(CLAIMS) in str(refused.value)


def test_a_verdict_that_there_is_not_is_a_mistake() -> None:
    """Of whoever wrote the rule."""
    with pytest.raises(ValueError, match="a verdict is one of"):
        Finding("maybe", "it looks like it")


def test_a_cpu_that_waits_for_its_own_lock_is_a_deadlock() -> None:
    """Alone, without anybody else."""
    outcome = hang(standing("CPU 0", ("rwsem",), "rwsem"), standing("CPU 1", (), "rwsem"))
    assert [line.split(",")[0] for line in outcome.deadlock] == ["CPU 0"]


def test_cpus_that_wait_in_a_circle_are_a_deadlock_and_those_behind_them_are_not() -> None:
    """Over any number of others."""
    ring = [standing(f"CPU {k}", (f"lock {k}",), f"lock {(k + 1) % 3}") for k in range(3)]
    outcome = hang(*ring, standing("CPU 3", ("lock 3",), "lock 0"))
    assert [line.split(",")[0] for line in outcome.deadlock] == ["CPU 0", "CPU 1", "CPU 2"]


def test_one_that_holds_a_lock_and_works_is_no_deadlock() -> None:
    """It is busy, whoever waits for it; after a while that is a livelock."""
    outcome = hang(standing("CPU 0", ("rwsem",), ms=3000), standing("CPU 1", (), "rwsem", ms=2900))
    assert outcome.deadlock == []
    assert [line.split(",")[0] for line in outcome.livelock] == ["CPU 0"]


def test_figures_of_a_run_that_hung_or_broke_something_are_refused() -> None:
    """They would mean nothing."""
    with pytest.raises(Exception, match="a run of some_design hung"):
        sound([hang(standing("CPU 0", ("rwsem",), "rwsem"))])
    with pytest.raises(Exception, match="hung"):
        sound([Outcome("x", None, (), ("I2: a bit is clear",))])


def test_a_sample_is_below_another_only_if_they_do_not_overlap() -> None:
    """All of one below all of the other."""
    assert below([1, 2], [3])
    assert not below([1, 3], [3])


def test_a_rule_is_worded_by_its_docstring() -> None:
    """As one paragraph."""

    def rule() -> None:
        """Holds if a run hangs.

        Else refuted.
        """

    assert worded(rule) == "Holds if a run hangs. Else refuted."
