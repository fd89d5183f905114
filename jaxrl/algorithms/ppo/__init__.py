"""Proximal policy optimisation: clipped surrogate, GAE, several passes of minibatches over each rollout.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347, with the recipe that robotics made of it: running
normalisation of observations and values, and a learning rate that follows the KL divergence.

| file | what is there |
|---|---|
| config | the keys of the group `ppo`, the checks between them, Hyper |
| parts | the nouns, and what the config chooses: made once, fixed while the program runs |
| agent | make, init, act, policy |
| learning | update: advantages, then the passes of each phase |
| terms | the terms of the losses |
| exploration | the bonus for novel observations |

Letters in shapes: T steps, N environments, A action size, H value heads, S steps of a segment, G groups, M segments
of a group, P segments of a rollout, B samples of a minibatch.
"""

from jaxrl.algorithms.ppo.agent import make
from jaxrl.algorithms.ppo.config import CHOICES, LIMITS, Hyper, default_config

__all__ = ["CHOICES", "LIMITS", "Hyper", "default_config", "make"]
