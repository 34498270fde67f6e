"""Labels: the only room that looks ahead; every label carries the instant at which it became known."""
