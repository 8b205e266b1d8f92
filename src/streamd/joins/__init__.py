"""Joins: which rows of two inputs belong together, as kernels over tables of a store. Pure; see the stage `join`."""
