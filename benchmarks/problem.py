"""What every system of the benchmark is given to do: the same environment, net and amount of learning."""

from typing import NamedTuple


class Problem(NamedTuple):
    """One environment and the sizes of one PPO iteration (one rollout, then one update)."""

    env_name: str
    suite: str = "brax"  # of jaxrl: whose environment it is
    backend: str = "spring"  # of Brax
    num_envs: int = 256
    unroll_length: int = 16
    num_minibatches: int = 4
    update_epochs: int = 4  # passes over one rollout's data
    episode_length: int = 1000  # of Brax
    hidden_sizes: tuple[int, ...] = (256, 128, 64)  # elu
    iterations: int = 8  # PPO iterations in one call of a system's step()
    purejaxrl: str = ""  # path of a PureJaxRL checkout

    @property
    def env_steps_per_iteration(self) -> int:
        return self.num_envs * self.unroll_length

    @property
    def env_steps_per_call(self) -> int:
        return self.env_steps_per_iteration * self.iterations

    @property
    def sizes(self) -> str:
        """In words, for a table's title."""
        where = f"{self.suite} {self.backend}" if self.suite == "brax" else self.suite
        return (
            f"{self.env_name}, {where}: {self.num_envs} envs × {self.unroll_length} steps, {self.num_minibatches} "
            f"minibatches, {self.update_epochs} passes, {list(self.hidden_sizes)} elu"
        )
