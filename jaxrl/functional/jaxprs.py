"""What the equations of a jaxpr hold, for those who run them in another way; JAX names it anew from time to time."""


def of_scan(params: dict) -> tuple[int, int]:
    """How many operands of a `scan` are constants, and how many after them its carry; what it goes through follows."""
    if "ft_in" in params:  # from jax 0.11 on
        constants, carry, _ = params["ft_in"].unpack()
        return len(constants), len(carry)
    return params["num_consts"], params["num_carry"]
