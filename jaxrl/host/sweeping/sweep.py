"""A sweep from its members to its summary, whatever engine trains them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.find import find
from jaxrl.host.keys import error
from jaxrl.host.sweeping import ledger, summary
from jaxrl.host.sweeping import population as populations
from jaxrl.host.sweeping.members import Request
from jaxrl.host.sweeping.population import Population
from jaxrl.host.writers import console


class Sweep(NamedTuple):
    """What came of a sweep."""

    workdir: Path
    table: list[dict]  # a row of each member, the best first
    settings: list[summary.Setting]  # the members that differ in the seed alone, the best first
    best: Path | None  # run folder of the best member of the best setting; None where nothing was measured
    signal: int  # that ended it, 0 if none did
    population: Population | None = None  # how it was bred, if it was

    @property
    def folders(self) -> list[Path]:
        """The run folder of each member, the best first."""
        return [self.workdir / row["member"] for row in self.table]

    def folders_of(self, count: int) -> list[Path]:
        """The run folders of the members of the first settings, of those that have measured something."""
        names = [name for setting in self.settings[:count] for name in setting.members]
        return [self.workdir / row["member"] for row in self.table if row["member"] in names and row["seconds"]]

    def to_pandas(self):
        """The table as a pandas.DataFrame.

        Raises:
            ConfigError: pandas is not installed.
        """
        return summary.to_pandas(self.table)

    def __str__(self):
        return summary.text(self.table, self.settings, self.best)


def conduct(
    request: Request,
    workdir: Path,
    command_line: list[str],
    engine: str = "local",
    options: Mapping[str, Any] | None = None,
    pbt: int | Mapping[str, Any] | None = None,
    say=console.say,
) -> Sweep:
    """Trains the members that have not ended, and sums up all of them.

    Args:
        request: which members.
        workdir: the sweep's folder.
        command_line: for the record.
        engine: a file of jaxrl/host/engines, or a dotted import path.
        options: the engine's own, those that have a default in its Options.
        pbt: makes the members a population, as `population.make` takes it.
        say: takes what there is to tell, a line at a time.

    Raises:
        ConfigError: what is asked for cannot be done.
    """
    trainer = find("host.engines", engine)
    if pbt is not None and not getattr(trainer, "BREEDS", False):
        raise error(f"--engine={engine} trains each member by itself, and --pbt is one program; take --engine=local")
    chosen = trainer.Options(command_line, request, **(options or {}))
    members = trainer.crew(chosen)
    population = populations.make(pbt, members, request.axes, request.sweep_seed)
    book = ledger.Ledger(workdir, members, command_line, population)
    signal = trainer.run(book, chosen, say)
    table, ranked, winner = summary.summarize(book)
    return Sweep(book.folder, table, ranked, winner, signal, population)
