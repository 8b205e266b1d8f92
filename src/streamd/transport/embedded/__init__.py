"""A partitioned log, positions and changelog in one SQLite file: exactly once without any server."""
