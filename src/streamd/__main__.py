"""`python -m streamd`."""

from streamd.cli.main import run

run()
