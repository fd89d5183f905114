"""What Optuna is asked and told about a sweep's settings. Nothing is trained: the folders hold what was reached."""

import json
import math
from pathlib import Path

import pytest

from jaxrl.host import config as configs
from jaxrl.host.sweeping import ledger, members

EXPERIMENT = Path(__file__).parent / "probe_experiment.py"
pytestmark = pytest.mark.sweep
RATE = "ppo.learning_rate=loguniform(1e-4,1e-1)"


@pytest.fixture(autouse=True)
def silent():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)


def request_of(text, samples=4, seeds=None):
    return members.Request(configs.load(str(EXPERIMENT)), {}, members.parse(text), seeds, samples)


def open_study(folder, text=RATE, storage="", **asked):
    """A study, as a driver that begins opens it, with the book of its folder."""
    from jaxrl.host.engines.ray import study

    request = request_of(text, **asked)
    book = ledger.Ledger(folder, [], ["test"])
    return study.Study(book, request, storage), book


def reach(study, book, member, score, how="done"):
    """A member ends with that score."""
    book.path(member).mkdir()
    row = {"env_steps": 256, "wall_seconds": 1.0, "eval/episode_return": score}
    (book.path(member) / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    book.note(member.name, how, "", 256)
    study.tell(member)


def trials(study):
    return [(trial.state.name, trial.value) for trial in study._study.trials]


def test_settings_are_proposed_one_by_one_until_there_are_enough(tmp_path):
    study, book = open_study(tmp_path / "sweep", samples=3)
    for number in range(3):
        (member,) = study.propose()
        assert 1e-4 <= member.config.ppo.learning_rate <= 1e-1
        assert member.name == f"ppo.learning_rate={member.config.ppo.learning_rate},seed=0"
        reach(study, book, member, float(number))
    assert study.propose() == []
    assert trials(study) == [("COMPLETE", 0.0), ("COMPLETE", 1.0), ("COMPLETE", 2.0)]
    assert len({member.name for member in book.members}) == 3


def test_the_best_value_is_found_more_often_than_by_chance(tmp_path):
    """The score is best at 1e-2 of three decades: of 40 random draws, 2.7 would lie within a tenth of a decade."""
    study, book = open_study(tmp_path / "sweep", samples=40)
    distances = []
    for _ in range(40):
        (member,) = study.propose()
        distances.append(abs(math.log10(member.config.ppo.learning_rate) + 2.0))
        reach(study, book, member, -distances[-1])
    assert sum(distance < 0.1 for distance in distances) >= 8


@pytest.mark.parametrize("storage", ["", "sqlite:///{folder}/study.db"])
def test_a_study_that_is_opened_again_knows_all_and_proposes_something_else(storage, tmp_path):
    storage = storage.format(folder=tmp_path)
    study, book = open_study(tmp_path / "sweep", storage=storage)
    for score in (1.0, 2.0):
        reach(study, book, *study.propose(), score)
    (open_one,) = study.propose()
    again, book = open_study(tmp_path / "sweep", storage=storage)
    assert trials(again) == [("COMPLETE", 1.0), ("COMPLETE", 2.0), ("RUNNING", None)]
    assert [member.name for member in book.members if not book.is_settled(member)][-1:] == [open_one.name]
    reach(again, book, open_one, 3.0)  # the run goes on, and counts as the trial that it was
    assert trials(again)[2] == ("COMPLETE", 3.0)
    (new,) = again.propose()
    assert len({member.name for member in book.members}) == 4 and again.propose() == []


def test_two_sweeps_share_a_database_and_each_keeps_its_own_members(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        study, book = open_study(tmp_path / place / "sweep", storage=storage, samples=2)
        for _ in range(2):
            reach(study, book, *study.propose(), 1.0)
        assert len(book.members) == 2
    assert trials(study) == [("COMPLETE", 1.0)] * 4
    assert len({trial.params["ppo.learning_rate"] for trial in study._study.trials}) == 4


def test_a_setting_counts_with_the_mean_of_its_seeds_and_a_broken_one_not_at_all(tmp_path):
    study, book = open_study(tmp_path / "sweep", samples=2, seeds=2)
    first, second = study.propose()
    assert (first.config.seed, second.config.seed) == (0, 1)
    reach(study, book, first, 1.0)
    assert trials(study) == [("RUNNING", None)]
    reach(study, book, second, 4.0)
    assert trials(study) == [("COMPLETE", 2.5)]
    third, fourth = study.propose()
    reach(study, book, third, 9.0)
    reach(study, book, fourth, 9.0, "broken")
    assert trials(study) == [("COMPLETE", 2.5), ("FAIL", None)]


def test_listed_values_and_whole_numbers_are_searched_too_until_nothing_is_left(tmp_path):
    text = "network.hidden_sizes=(8,),(16,16) ppo.update_epochs=uniform(1,2)"
    study, book = open_study(tmp_path / "sweep", text, samples=9)
    found = []
    while crew := study.propose():
        found.append((crew[0].config.network.hidden_sizes, crew[0].config.ppo.update_epochs))
        reach(study, book, *crew, 1.0)
    assert sorted(found) == [((8,), 1), ((8,), 2), ((16, 16), 1), ((16, 16), 2)]
    again, book = open_study(tmp_path / "sweep", text, samples=9)
    assert len(book.members) == 4 and again.propose() == []


def test_members_of_another_request_are_left_out(tmp_path):
    study, book = open_study(tmp_path / "sweep", samples=1)
    reach(study, book, *study.propose(), 1.0)
    other, book = open_study(tmp_path / "sweep", "ppo.clip=uniform(0.1,0.3)", samples=1)
    assert book.members == [] and trials(other) == []
