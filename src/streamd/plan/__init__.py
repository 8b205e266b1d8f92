"""Deciding what runs: graph, tasks, chains compiled to code, explain. Pure."""
