"""The data plane: tasks, the checkpoint, failures, drain."""
