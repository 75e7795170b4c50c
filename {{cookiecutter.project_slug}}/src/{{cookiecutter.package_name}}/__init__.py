"""The project, room by room; see docs/architecture.md."""
