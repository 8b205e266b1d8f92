"""Joins: which rows of two inputs belong together, as kernels over a store's tables. Pure: `stages/join.py` runs them."""
