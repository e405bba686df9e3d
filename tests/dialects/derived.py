"""What tests derive from a dialect: how its clients ask for the list, and with which parameters.

A test that uses this needs no line for one more dialect.
"""

from collections.abc import Mapping

from app.catalog.errors import InvalidValue


def address(dialect):
    """Return the path of the list, and headers that select the dialect there."""
    if dialect.routes is not None:
        return dialect.routes.listing, {}
    return "/v1/models", dict.fromkeys(dialect.headers, "x")


class Asked(Mapping):
    """A query without parameters that records which ones it is asked for."""

    def __init__(self):
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 1


def parameters_of(dialect):
    """Return the names of the parameters that select a part of the list."""
    query = Asked()
    dialect.window(query)
    return query.names


def sizes_of(dialect):
    """Return the names of those that only set how many entries a page has."""
    return {name for name in parameters_of(dialect) if _is_size(dialect, name)}


def _is_size(dialect, name):
    try:
        return dialect.window({name: "5"}) == dialect.window({})._replace(limit=5)
    except InvalidValue:
        return False
