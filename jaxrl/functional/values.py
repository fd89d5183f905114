"""What a critic says: a number, or a histogram of where the number may lie; and how wrong it was.

Letters in shapes: B bins; `...` any leading axes, with several value heads the last of them is H.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.functional import extrema, losses
from jaxrl.types import Array


class Point(NamedTuple):
    """The plain number."""

    value: Array  # [...]

    def expectation(self) -> Array:
        """[...], the value."""
        return self.value

    def loss(self, target: Array, old: Array, clip: float | Array, error: Callable) -> Array:
        """max(error(V - target), error(clipped V - target)), V clipped to the old value ± clip.

        OpenAI's ppo2, https://github.com/openai/baselines/blob/ea25b9e8/baselines/ppo2/model.py.

        Args:
            target: [...].
            old: [...] the value at the time of the rollout.
            clip: how far the value may move from the old one; inf is as far as it likes.
            error: one of losses.VALUE_LOSSES.

        Returns:
            [...].
        """
        clipped = losses.clipped_value(self.value, old, clip)
        return extrema.larger(error(self.value - target), error(clipped - target))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Histogram:
    """Probabilities of B bins whose centres lie evenly from -limit to limit.

    No NamedTuple like its like, because all but the logits is known when the program is compiled.
    """

    logits: Array  # [..., B]
    limit: float = dataclasses.field(metadata={"static": True})  # centre of the last bin, in units of the value
    spread: str = dataclasses.field(metadata={"static": True})  # of a target over the bins, one of SPREADS
    smoothing: float = dataclasses.field(metadata={"static": True})  # of hl_gauss, in bins

    def expectation(self) -> Array:
        """[...], Σ p z over the centres z of the bins."""
        centres = jnp.linspace(-self.limit, self.limit, self.logits.shape[-1])
        return jnp.sum(jax.nn.softmax(self.logits) * jnp.broadcast_to(centres, self.logits.shape), axis=-1)

    def loss(self, target: Array, old: Array, clip: float | Array, error: Callable) -> Array:
        """[...] nats, the cross-entropy of the target's own histogram, -Σ p_target log p.

        Args:
            target: [...]; counts as ±limit beyond.
            old, clip, error: of Point's loss; here the gradient is bounded without them.
        """
        del old, clip, error
        bins = self.logits.shape[-1]
        position = (jnp.clip(target, -self.limit, self.limit) + self.limit) * ((bins - 1) / (2 * self.limit))
        return -jnp.sum(SPREADS[self.spread](position, bins, self.smoothing) * jax.nn.log_softmax(self.logits), axis=-1)


def two_hot(position: Array, bins: int, smoothing: float = 0.0) -> Array:
    """All weight on the two nearest bins, so that their mean is the position: max(1 - |position - b|, 0).

    Schrittwieser et al. 2020 (MuZero), appendix F, https://arxiv.org/abs/1911.08265; Hafner et al. 2023 (DreamerV3),
    https://arxiv.org/abs/2301.04104.

    Args:
        position: [...] in [0, bins - 1]: 0 is the centre of the first bin, 1 that of the second.
        bins: B.
        smoothing: not used.

    Returns:
        [..., B] probabilities.
    """
    del smoothing
    return jnp.maximum(1.0 - jnp.abs(_distance(position, jnp.arange(bins))), 0.0)


def hl_gauss(position: Array, bins: int, smoothing: float) -> Array:
    """The weight that a Gaussian around the position has in each bin: Φ((b + ½ - x) / σ) - Φ((b - ½ - x) / σ).

    Imani & White 2018, https://arxiv.org/abs/1806.04613; Farebrother et al. 2024, section 3.1,
    https://arxiv.org/abs/2403.03950; divided by the sum over all bins, as the code in their appendix A does. The mean
    is the position to 1e-5 bins for σ = ¾, but for the outermost 4 σ: what of the Gaussian lies beyond the last bin
    is missing there, which moves the mean inward, by 0.37 bins at the very end.

    Args:
        position: [...] in [0, bins - 1]: 0 is the centre of the first bin, 1 that of the second.
        bins: B.
        smoothing: σ of the Gaussian, in bins.

    Returns:
        [..., B] probabilities.
    """
    cdf = jax.scipy.stats.norm.cdf(_distance(position, jnp.arange(bins + 1) - 0.5) / smoothing)
    return (cdf[..., 1:] - cdf[..., :-1]) / (cdf[..., -1:] - cdf[..., :1])


def _distance(position: Array, places: Array) -> Array:
    """[..., P], from each position [...] to each place [P]."""
    shape = (*position.shape, places.size)
    return jnp.broadcast_to(places, shape) - jnp.broadcast_to(position[..., None], shape)


SPREADS = {"two_hot": two_hot, "hl_gauss": hl_gauss}
