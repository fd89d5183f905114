"""The bonus for exploring that joins the reward: none, or random network distillation."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.algorithms.ppo.parts import Bonus, Parts, State
from jaxrl.functional import masked, normalize
from jaxrl.networks import novelty
from jaxrl.types import Array, Rollout, Spec


def make(ppo: ConfigDict, spec: Spec) -> Bonus:
    """The bonus that the group `ppo` asks for."""
    if not ppo.rnd_weight:
        return Bonus(lambda key: {}, lambda parts, state, rollout: (state, 0.0, {}), lambda params, obs: jnp.zeros(()))
    net = novelty.make(tuple(ppo.rnd_hidden_sizes), ppo.rnd_features, spec)

    def reward(parts: Parts, state: State, rollout: Rollout) -> tuple[State, Array, dict[str, Array]]:
        """What each step came to see, in standard deviations of all novelty so far, times rnd_weight; [T, N]."""
        reached = jax.tree.map(lambda x, last: jnp.concatenate([x[1:], last[None]]), rollout.obs, rollout.last_obs)
        error = net.error(state.params, parts.normalize_obs(state.obs_moments, reached))
        moments = normalize.update(state.novelty_moments, error, rollout.valid)
        bonus = state.hyper.rnd_weight * error * jax.lax.rsqrt(moments.variance[0] + 1e-8)
        # After a step that ended its episode comes an observation of another.
        bonus = jnp.where(rollout.terminated | rollout.truncated, 0.0, bonus)
        return state._replace(novelty_moments=moments), bonus, {"rollout/novelty": masked.mean(error, rollout.valid)}

    return Bonus(net.init, reward, net.error)
