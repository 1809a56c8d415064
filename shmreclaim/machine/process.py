"""Who a process is: its pid alone is reused, its pid and start time are not."""

import hashlib
import os
import platform
from pathlib import Path


def start_time(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot; 0 if there is no such process (proc(5), stat)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(text.rpartition(b")")[2].split()[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had `pid` and started then still runs; a zombie does not."""
    if pid <= 0 or start_time(pid) != started:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def boot_id() -> int:
    """Number of this boot of the machine: start times of another boot mean nothing."""
    text = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 2


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def stolen_ns() -> int:
    """How long cores have waited for the machine below this virtual one, all together (proc_stat(5), steal)."""
    fields = Path("/proc/stat").read_bytes().split(b"\n", 1)[0].split()
    return int(fields[8]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def machine_description() -> dict[str, object]:
    """What a reader of figures must know of the machine they were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cores": len(cores()),
        "cpu": model,
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
