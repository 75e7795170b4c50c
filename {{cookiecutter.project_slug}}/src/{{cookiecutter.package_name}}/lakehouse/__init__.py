"""Delta tables, the engine that queries them, contracts and point-in-time feature joins."""
