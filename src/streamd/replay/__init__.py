"""A fresh run of a pipeline over input that lies in the past, beside the live one and apart from it.

`span` says which part of the input, `log` and `kafka` find it, `rewrite` makes the pipeline that reads it.
"""
