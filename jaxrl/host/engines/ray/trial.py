"""What Ray Tune starts for each run, on the machine that has room for it; it looks after the run's process."""

from ray import tune

from jaxrl.host.engines.ray.process import Job, Process


class Trial(tune.Trainable):
    """A run as Tune sees it: each step is an evaluation. Its state is the run's own, in the run folder."""

    def setup(self, config: dict):
        self._job, self._process = Job(**config), None

    def step(self) -> dict:
        if self._process is None:
            if self._job.is_called_off:  # while it waited for room
                return {"done": True, "ended": "interrupted", "reason": "the sweep was called off", "env_steps": 0}
            self._process = Process(self._job)
        return self._process.report()

    def cleanup(self):
        if self._process:
            self._process.stop()

    def save_checkpoint(self, checkpoint_dir: str) -> dict:
        """Tune asks for one now and then; there is nothing of its own to keep."""
        return {}

    def load_checkpoint(self, checkpoint: dict):
        """The process finds its newest checkpoint by itself."""
