"""YAML with positions to checked models, with every problem found at once. Pure but for reading files."""
