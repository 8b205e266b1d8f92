"""The expression language: a checked subset of Python's own syntax, compiled. Pure."""
