"""A sample of a source, read without any trace: what `streamd inspect` is made of."""
