"""A partitioned log, positions and changelog in one SQLite file: exactly once without any server.

`database` opens the file, `records` packs records into batches, `committer` is the one thread of a process that writes,
`log` is the file as the event loop sees it, `reader` reads one partition, `transaction` is a task's checkpoint.
"""
