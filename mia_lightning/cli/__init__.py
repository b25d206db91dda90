"""The command line: ``mia-lightning fit | validate | test | predict | audit | demo``."""
