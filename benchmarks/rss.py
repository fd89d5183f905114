"""A writer for jaxrl's training loop that notes how much memory the process holds: one number a row, in rss.txt."""

import os
import pathlib

from jaxrl.types import Writer

FILE = "rss.txt"


def make(config, workdir, env_steps):
    """The writer; see jaxrl.host.writers for the arguments."""
    del config, env_steps
    out = open(workdir / FILE, "w")

    def write(row):
        del row
        print(resident_mb(), file=out, flush=True)

    return Writer(write, out.close)


def resident_mb():
    """Memory of this process that is in RAM now, in 2^20 bytes. Linux only."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
