"""An emulated kernel of one CPU, booted in this process, for loops that measure what its operations cost."""

from typing import Any, Self

from shmreclaim import kernel
from shmreclaim.errors import InternalError, ModelViolation
from shmreclaim.executions import oracles
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.boot import Machine, boot
from shmreclaim.mm.state import MM, Upcall

WORDS_OF_A_PAGE = 512


@compiled
def mkdir_many(mem: Any, cpu: int, count: int) -> int:
    """Bring memcgs 1 to `count` online below the root; 0, or what went wrong."""
    outcome = 0
    for handle in range(count):
        if outcome == 0:
            outcome = kernel.op_memcg_online(mem, cpu, handle + 1, 0, 0)
    return outcome


@compiled
def mount_many(mem: Any, cpu: int, first: int, count: int) -> int:
    """Mount `count` superblocks, of handles from `first` on; 0, or what went wrong."""
    outcome = 0
    for handle in range(count):
        if outcome == 0:
            outcome = kernel.op_register(mem, cpu, first + handle, 1, 0)
        kernel.quiescent(mem, cpu)
    return outcome


class Emulated:
    """An emulated kernel of one CPU and one node under a design; use as a context manager.

    Every page of its segment is touched, so that no page fault is measured.
    """

    def __init__(self, design: str, *, memcgs: int, mounts: int, spare_mounts: int = 0) -> None:
        """Boot it, with so many memcgs below the root (handles from 1 on) and mounts (handles from 0 on)."""
        # A superblock takes half a page, and its two list_lrus 64 bytes for each memcg.
        pages = 2048 + (mounts + spare_mounts) * (1 + memcgs // 64)
        machine = Machine(
            cpus=1,
            nodes=1,
            pages_per_node=pages,
            watermark_min=16,
            watermark_low=20,
            watermark_high=24,
            max_memcgs=memcgs,
            memcg_handles=memcgs + 1,
            shrinker_handles=mounts + spare_mounts,
            extra_words=kernel.OP.SIZE + 8,
        )
        self.design = design
        self.arena = Arena.inherited(machine.words())
        self.arena.words[::WORDS_OF_A_PAGE] += 0
        (self.cpu,) = boot(self.arena, machine)
        self.op = self.arena.allocate(kernel.OP.SIZE)
        self.mem = self.arena.address
        self.bind()
        upcall(Upcall.INIT, self.arena.memory, self.cpu, 0, 0, 0, 0)
        self.must(mkdir_many(self.mem, self.cpu, memcgs), f"bringing {memcgs} memcgs online")
        self.must(mount_many(self.mem, self.cpu, 0, mounts), f"mounting {mounts} superblocks")

    def bind(self) -> None:
        """Make the upcalls of this process those of this kernel's design; before each use, where kernels take turns."""
        kernel.bind_design(self.design)

    def must(self, outcome: int, what: str) -> None:
        """Stop with a message unless an outcome is 0."""
        if outcome != 0:
            raise InternalError(f"{self.design}: {what} ended with {outcome}")

    def memcg(self, handle: int) -> int:
        """The memcg of a handle; 0 is the root."""
        memory = self.arena.memory
        return int(memory[memory[memory[HEADER.kernel] + MM.memcg_table] + handle])

    def check(self) -> None:
        """Stop with a message if an invariant is broken: then no figure means anything."""
        _, violations = oracles.check_at_rest(self.arena, [self.cpu])
        if violations:
            raise ModelViolation(f"{self.design}: invariants broken: " + "; ".join(violations))

    def close(self) -> None:
        """Give its memory back."""
        self.arena.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()
