"""One file per pipeline that leaves a run; each reads as prose, each step is one call."""
