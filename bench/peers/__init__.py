"""Other services on the same catalogue, each in an environment of its own; see ``install``."""
