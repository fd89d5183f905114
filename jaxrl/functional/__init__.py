"""Pure functions of arrays: returns, losses, distributions, normalisers, schedules and the minibatch dealer."""
