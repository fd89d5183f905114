"""The folder of a sweep: which members it has, and how far each is.

SWEEP/sweep.json       the command line, and of each member its changes, how it ended and after how many env steps
SWEEP/MEMBER/          a run folder like any other
"""

import json
import os
from pathlib import Path

from jaxrl.host import config as configs
from jaxrl.host import keys, run_folder
from jaxrl.host.keys import error
from jaxrl.host.sweeping.members import Member
from jaxrl.host.sweeping.population import FLAGS, Population

FORMAT_VERSION = 1  # of sweep.json and summary.json
FILE = "sweep.json"
OPEN = ("waiting", "interrupted")  # of a member that goes on when the command is given again
ENDS = ("done", "stopped", "broken", "interrupted")


class Ledger:
    """What is known of the members of a sweep, kept in its folder."""

    def __init__(
        self, folder: Path, members: list[Member], command_line: list[str], population: Population | None = None
    ):
        """Opens the folder of a new sweep, or of one that goes on.

        Raises:
            ConfigError: the folder holds something else, or another population, or cannot be written.
        """
        self.folder, self.members, self.population = Path(folder), members, population
        path = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if run_folder.is_run(self.folder):
                raise error(f"--workdir={folder} holds a run, not a sweep; give another --workdir")
            held = sorted(entry.name for entry in self.folder.iterdir() if entry.name != f".{FILE}.tmp")
            if held and FILE not in held:
                raise error(f"--workdir={folder} is no sweep but holds {keys.show(held[0])}; give a new --workdir")
            known = _read(path) if held else {}
            asked = population and population.told() | {"members": [member.name for member in members]}
            self._check_population(known, asked)
            self._told = {
                "format_version": FORMAT_VERSION,
                "command_line": command_line,
                **({"population": asked} if asked else {}),
                "members": known.get("members", {}),
            }
            self._enter(members)
        except OSError as mistake:
            raise error(f"--workdir={folder} cannot be written ({mistake}); give another --workdir") from None

    def add(self, members: list[Member]) -> None:
        """Takes in members that were found later."""
        self.members = [*self.members, *members]
        self._enter(members)

    def changes(self) -> dict[str, dict]:
        """By name, the changes of every member that was ever entered, also of those that are not among `members`."""
        return {name: dict(entry.get("changes", {})) for name, entry in self._told["members"].items()}

    def path(self, member: Member) -> Path:
        """The run folder of a member."""
        return self.folder / member.name

    def status(self, member: Member) -> dict:
        """`status`, `reason`, `env_steps`, `changes` and `seed` of a member."""
        return self._told["members"][member.name]

    def is_settled(self, member: Member) -> bool:
        """Whether a member has ended and nothing has changed since: what is asked for now would not let it go on."""
        folder = self.path(member)
        if self.status(member)["status"] in OPEN or not run_folder.is_run(folder):
            return False
        return not configs.difference(run_folder.read_config(folder), member.config)

    def note(self, name: str, status: str, reason: str, env_steps: int) -> None:
        """Notes how a member ended, on disk."""
        self._told["members"][name] |= {"status": status, "reason": reason, "env_steps": env_steps}
        self._write()

    def _enter(self, members):
        for member in members:
            entry = {"status": "waiting", "reason": "", "env_steps": 0}
            entry |= self._told["members"].get(member.name, {})
            self._told["members"][member.name] = entry | {"changes": member.changes, "seed": member.config.seed}
        self._write()

    def _check_population(self, known, asked):
        """ConfigError if members that have begun were another population, or none: what they are now depends on it."""
        has_begun = any((self.folder / name / "checkpoints").is_dir() for name in known.get("members", {}))
        was = known.get("population")
        if not has_begun or was == asked:
            return
        if was is None or asked is None:
            raise error(f"--workdir={self.folder} holds a sweep that began with{'out' if asked else ''} --pbt; "
                        "give the command that it began with, or a new --workdir")  # fmt: skip
        name = next(name for name in asked if asked[name] != was.get(name))
        flag = FLAGS.get(name, "--sweep")
        raise error(f"{flag} is not what the population in --workdir={self.folder} began with "
                    f"({keys.clip(str(was.get(name)))}); give the same again, or a new --workdir")  # fmt: skip

    def _write(self):
        write(self.folder / FILE, json.dumps(self._told, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)


def _read(path):
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        version, _ = told["format_version"], dict(told["members"])
    except (OSError, ValueError, TypeError, KeyError) as mistake:
        raise error(f"{path} cannot be read ({mistake!r}); restore the file, or give a new --workdir") from None
    if version != FORMAT_VERSION:
        raise error(f"{path} has format_version={version!r}, not {FORMAT_VERSION}; go on with the jaxrl that wrote it")
    return told
