"""Dead letters: looked at, taken through their pipeline again, marked as done.

`letter` says what a dead letter is, `places` where they are kept, `choice` which of them are meant, `entry` where one
enters its pipeline again, `marks` that it has done so, `replay` does it. A letter's outputs and its mark are one
transaction.
"""
