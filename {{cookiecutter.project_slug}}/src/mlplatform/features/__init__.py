"""Feature tables, and frames of entities with what was known at their prediction times."""
