"""One file per pipeline; each reads as prose, each step is one call."""
