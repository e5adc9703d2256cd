"""The verbs of the command line, a file a family; `cli.py` puts them together."""
