"""What Optuna proposes: settings one after the other, each from what the ones before have reached.

A trial of the study is a setting, whose value is the mean over its seeds of what each reached last. The study lives in
memory, or in a database that several drivers may share; the sweep's folder knows all that the sweep itself has found,
so that the study is what it was when a sweep goes on.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import sqlalchemy

from jaxrl.host import keys
from jaxrl.host.keys import error
from jaxrl.host.sweeping import members, summary
from jaxrl.host.sweeping.ledger import OPEN, Ledger
from jaxrl.host.sweeping.members import Draw, Member, Request

SETTING = "jaxrl_setting"  # the attribute of a trial that says which setting it is
TRIES = 100  # proposals in a row that are known already: there is nothing left to try


class Study:
    """Settings for the members of a sweep, from the best so far."""

    def __init__(self, book: Ledger, request: Request, storage: str):
        """Opens the study named as the sweep's folder, and takes into the book the members that the folder knows.

        Args:
            book: of the sweep.
            request: what is asked for.
            storage: URL of a database; '' keeps it in memory.

        Raises:
            ConfigError: the database cannot be opened, or holds another study of that name.
        """
        self._book, self._request = book, request
        self._held = dict(keys.leaves(members.resolved(request)))
        self._values = {name: self._choices(name, axis) for name, axis in request.axes.items()}
        self._space = {name: self._distribution(name, axis) for name, axis in request.axes.items()}
        self._settings: dict[str, list[Member]] = {}
        self._numbers: dict[str, int] = {}  # of the trials under way
        self._study = self._open(storage)
        self._recall()

    def propose(self) -> list[Member]:
        """The members of the next setting, entered into the book; none once there are `samples`, or nothing is new."""
        for _ in range(TRIES if len(self._settings) < self._request.samples else 0):
            trial = self._study.ask(self._space)
            setting = self._setting(trial.params)
            label = _label(setting)
            if label in self._settings:  # of few values, one may well be the best again
                self._study.tell(trial.number, **self._outcome(self._settings[label]))
                continue
            new = members.beside(self._book.members, self._request, setting)
            trial.set_user_attr(SETTING, label)
            self._numbers[label] = trial.number
            self._settings[label] = new
            self._book.add(new)
            return new
        return []

    def tell(self, member: Member) -> None:
        """Tells Optuna of the setting of a member that has ended, if it was the last of it."""
        label = _label(member.changes)
        if self._is_over(label) and label in self._numbers:
            outcome = self._outcome(self._settings[label])
            self._study.tell(self._numbers.pop(label), **outcome, skip_if_finished=True)

    def _open(self, storage):
        try:
            # An experimental part of Optuna warns of being one.
            with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
                # Whoever has asked hangs up: proposals are far apart, and a database counts who is connected.
                unpooled = {"poolclass": sqlalchemy.pool.NullPool}
                database = optuna.storages.RDBStorage(storage, engine_kwargs=unpooled) if storage else None
                study = optuna.create_study(
                    storage=database,
                    study_name=self._book.folder.resolve().name,
                    load_if_exists=True,
                    direction="maximize",
                )
                # The seed moves on with the study: one that goes on would else propose its beginning again.
                study.sampler = optuna.samplers.TPESampler(
                    seed=self._request.sweep_seed + len(study.trials), constant_liar=True
                )
        except Exception as mistake:  # each database has its own
            cause = " ".join(str(mistake).split())
            cure = "give a URL such as sqlite:///study.db"
            raise error(f"--storage={storage} cannot be opened ({cause[:200]}); {cure}") from mistake
        return study

    def _recall(self):
        """Takes up the settings in the folder, and gives the study those that it does not know."""
        known = {trial.user_attrs.get(SETTING): trial for trial in self._study.get_trials(deepcopy=False)}
        crew = [
            members.one(self._request, changes)._replace(name=name)
            for name, changes in self._book.changes().items()
            if self._is_ours(changes)
        ]
        for member in crew:
            self._settings.setdefault(_label(member.changes), []).append(member)
        self._book.add(crew)
        for label, group in self._settings.items():
            trial = known.get(label)
            if trial is None:
                self._enter(label, group)
            elif not trial.state.is_finished():
                self._numbers[label] = trial.number
                self.tell(group[0])

    def _enter(self, label, group):
        """Gives the study a setting that was found without it."""
        params = {name: self._param(name, value) for name, value in group[0].changes.items() if name in self._space}
        if self._is_over(label):
            outcome = self._outcome(group)
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=outcome["state"],
                    value=outcome["values"],
                    params=params,
                    distributions=self._space,
                    user_attrs={SETTING: label},
                )
            )
            return
        self._study.enqueue_trial(params)
        trial = self._study.ask(self._space)
        trial.set_user_attr(SETTING, label)
        self._numbers[label] = trial.number

    def _is_over(self, label):
        return all(self._book.status(member)["status"] not in OPEN for member in self._settings[label])

    def _outcome(self, group) -> dict[str, Any]:
        """The state and the value of a setting's trial.

        A run that asha stopped counts with what it had reached: it was behind the others, and so is what it had.
        """
        scores = [summary.last_score(self._book.path(member)) for member in group]
        is_broken = any(self._book.status(member)["status"] == "broken" for member in group)
        if is_broken or not np.isfinite(scores).all():
            return {"state": optuna.trial.TrialState.FAIL, "values": None}
        return {"state": optuna.trial.TrialState.COMPLETE, "values": float(np.mean(scores))}

    # A value as Optuna has it, and as a member has it.

    def _choices(self, name, axis) -> dict[str, Any]:
        """Of an axis with a list, each value by its text; a member's own is the value that the text means."""
        if isinstance(axis, Draw):
            return {}
        return {str(value): members.one(self._request, {name: value}).changes[name] for value in axis}

    def _distribution(self, name, axis):
        if not isinstance(axis, Draw):
            return optuna.distributions.CategoricalDistribution(tuple(self._values[name]))
        is_log = axis.kind == "loguniform"
        if isinstance(self._held.get(name), int):
            return optuna.distributions.IntDistribution(math.ceil(axis.low), math.floor(axis.high), log=is_log)
        return optuna.distributions.FloatDistribution(axis.low, axis.high, log=is_log)

    def _setting(self, params: Mapping[str, Any]) -> dict[str, Any]:
        setting = {}
        for name, axis in self._request.axes.items():
            is_drawn = isinstance(axis, Draw)
            value = params[name]
            setting[name] = (
                members.fitting(value, axis, self._held.get(name)) if is_drawn else self._values[name][value]
            )
        return members.one(self._request, setting).changes

    def _param(self, name, value):
        """The text of a listed value, the number of a drawn one; None if this sweep has no such value."""
        if not self._values[name]:
            return value if self._space[name]._contains(value) else None
        return next((text for text, meant in self._values[name].items() if _plain(meant) == _plain(value)), None)

    def _is_ours(self, changes):
        """Whether a member in the folder is of what is asked for now."""
        own = {name: value for name, value in changes.items() if name != "seed"}
        return own.keys() == self._space.keys() and all(self._param(*item) is not None for item in own.items())


def _label(changes):
    """One setting as a text that tells it from others, whatever a JSON file made of its tuples."""
    return repr(sorted((name, _plain(value)) for name, value in changes.items() if name != "seed"))


def _plain(value):
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
