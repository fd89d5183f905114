"""jaxrl: reinforcement learning as pure functions, one compiled epoch at a time."""
