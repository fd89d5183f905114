"""Where rows of metrics go: each file exports `make(config, workdir, env_steps) -> Writer` and is found by its name."""
