"""Networks: torsos, heads and how they make an actor and a critic; the only floor that knows of flax."""
