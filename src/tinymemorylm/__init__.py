"""Train, measure and run language models of under a million parameters."""

__version__ = "0.1.0"
