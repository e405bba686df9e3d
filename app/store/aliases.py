"""The table of aliases, made from the documents of the entries."""

import sqlalchemy as sa

from app.store.documents import read_model
from app.store.tables import aliases, models

_DOCUMENTS = sa.select(models.c.id, models.c.document)
_ADD = sa.insert(aliases)


def index_aliases(connection: sa.Connection) -> None:
    """Replace the rows by those of the stored documents.

    Of entries with the same alias, which no write of this program makes, the first by id has it.
    """
    found: dict[str, str] = {}
    for model_id, document in connection.execute(_DOCUMENTS):
        for alias in read_model(document, 0).aliases or ():
            found[alias] = min(model_id, found.get(alias, model_id))
    connection.execute(sa.delete(aliases))
    if found:
        rows = [{"alias": alias, "model_id": model_id} for alias, model_id in found.items()]
        connection.execute(_ADD, rows)
