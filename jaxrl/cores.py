"""How many cores there are to compute with."""

import math
import os
from pathlib import Path

QUOTAS = (  # of a control group, as containers see their own: version 2 in one file, version 1 in two
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def number(quotas: tuple[tuple[str, ...], ...] = QUOTAS) -> int:
    """Cores that this process may run on, or fewer where a container has the time of fewer; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(share) for share in map(_share, quotas) if share)]))


def _share(files):
    """The cores' worth of time that a control group has; None without a limit."""
    try:
        quota, period = " ".join(Path(file).read_text() for file in files).split()
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError):  # 'max', or no such file
        return None
