"""Members share a program when, and only when, the numbers in Hyper and the seed are all that tells them apart."""

from pathlib import Path

import pytest

from jaxrl.host import config as configs
from jaxrl.host.sweeping import groups, members

pytestmark = pytest.mark.slow

EXPERIMENT = Path(__file__).parent / "probe_experiment.py"


def sizes(text):
    crew = members.make(configs.load(str(EXPERIMENT)), {}, members.parse(text))
    return [len(group) for group in groups.split(crew)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ppo.learning_rate=1e-4,1e-3 ppo.entropy_cost=0,1e-2 seed=0,1,2", [12]),
        ("ppo.gamma=0.9,0.99 ppo.max_gradient_norm=0.5,1", [4]),
        ("network.hidden_sizes=(8,),(16,) seed=0,1", [2, 2]),
        ("ppo.obs_clip=5,10", [1, 1]),  # a number too, but one that is built in
        ("ppo.num_envs=16,32 ppo.clip=0.1,0.2", [2, 2]),
        # A schedule ends elsewhere, and so does the run; the other parts of a config are as good as shapes.
        ("total_env_steps=2560,5120", [1, 1]),
        ("env.name=fuse,clock", [1, 1]),
        ("eval.episodes=8,16", [1, 1]),
        # In Hyper, but where it is 0 there is no network that predicts: 0 is another program than 0.5, 0.5 as 1.
        ("ppo.rnd_weight=0,0.5,1", [1, 2]),
    ],
)
def test_members_that_differ_in_hyper_and_seed_share_a_program(text, expected):
    assert sizes(text) == expected
