"""State: what stateful stages remember, its way into the changelog at each checkpoint, and back after a crash."""
