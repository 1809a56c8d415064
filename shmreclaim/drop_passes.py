"""What `dropcaches` found, as plain data: the fields of its JSON."""

from shmreclaim.result import DesignFile, Invariants, Measured, Record, Spread

DROP_PASSES_SCHEMA_VERSION = 1

BASELINE = "no_map"
"""Whose time is divided by a design's."""


class DropPass(Record, frozen=True, kw_only=True):
    """One drop of caches: all its rounds, the medians of the runs."""

    seconds: float
    """Of CPU time, as the series was measured: a machine that is busy with others as well does not lengthen it."""
    elapsed_s: float
    """By the clock."""
    shrinker_calls: int
    """Calls of do_shrink_slab."""
    scan_calls: int
    """Calls that came to scan_objects, because something was there to free."""
    objects_freed: int
    rounds: int
    """How often everything was asked: a round that frees more than ten objects is followed by another."""
    runs_s: list[float]
    """The seconds of each run."""


class DesignPasses(Record, frozen=True, kw_only=True):
    """One design over its runs."""

    runs: int
    passes: list[DropPass]
    later_s: Spread | None
    """A pass after the first: the median of each run, over the runs; None if there is only the first."""
    ratio_first: Spread | None
    """How many times as long the first pass takes under BASELINE, over the runs; None if that was not run."""
    ratio_later: Spread | None
    """The same of the later passes."""
    invariants: Invariants

    @property
    def refused(self) -> bool:
        """Whether an oracle failed, so that no figure of this design means anything."""
        return bool(self.invariants.violations)

    @property
    def objects_freed(self) -> int:
        """All passes together."""
        return sum(each.objects_freed for each in self.passes)


class DropsAtSize(Record, frozen=True, kw_only=True):
    """All designs with one number of containers."""

    containers: int
    segment_bytes: int
    designs: dict[str, DesignPasses]

    @property
    def refused(self) -> list[str]:
        """Names of the designs that broke an invariant."""
        return [name for name, design in self.designs.items() if design.refused]

    @property
    def freed(self) -> dict[int, list[str]]:
        """Who freed how many objects; one entry where all did the same work."""
        found: dict[int, list[str]] = {}
        for name, design in self.designs.items():
            found.setdefault(design.objects_freed, []).append(name)
        return found

    @property
    def is_sound(self) -> bool:
        """Whether no invariant broke and every design freed the same."""
        return not self.refused and len(self.freed) == 1


class DropsResult(Measured, frozen=True, kw_only=True):
    """Everything that one `dropcaches` found; `to_builtins` of it is the JSON."""

    schema_version: int = DROP_PASSES_SCHEMA_VERSION
    segment_bytes: int
    """Shared memory of each run."""
    designs: dict[str, DesignPasses]
    sweep: list[DropsAtSize]
    """Smaller numbers of containers first; the last is what stands above. Empty where no sweep was asked for."""
    design_files: dict[str, DesignFile]
    """Of users' designs, by the name that stands in `designs`."""

    @property
    def at_size(self) -> DropsAtSize:
        """What was asked for, the sweep aside."""
        return DropsAtSize(
            containers=self.parameters["containers"], segment_bytes=self.segment_bytes, designs=self.designs
        )

    @property
    def is_sound(self) -> bool:
        """Whether no invariant broke, and all designs freed the same, at every size."""
        return all(each.is_sound for each in (self.at_size, *self.sweep))
