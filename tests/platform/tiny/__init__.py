"""A small owner's project, of the kind that the platform is handed: items, and what became of them."""
