"""What judges a project: `check` before anything runs, and the conformance checks on the owner's own data."""
