"""Where tables live: Delta tables by name, and the landing zone."""
