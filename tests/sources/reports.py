"""What the schema takes of a file, and what it leaves out: as an import reports it."""

from collections import Counter

from app import sources_of
from app.catalog.errors import ValidationFailed
from app.schemas import AdminModelSchema, check, check_together
from app.sources.reading import read

SCHEMA = AdminModelSchema()


def rows_of(body, name="auto", media_type=None):
    """Return the format of a file and its rows."""
    content = read(body, media_type)
    source = sources_of().choose(content, name)
    return source.name, list(source.rows(content))


def entries_of(body, name="auto", media_type=None):
    """Return the fields of each row of a file that is all right: no note, and nothing refused."""
    _, rows = rows_of(body, name, media_type)
    for row in rows:
        assert ({}, None) == (dict(row.notes), row.no_model)
        check_together(check(SCHEMA, {"id": row.id, **row.fields}))
    return {row.id: dict(row.fields) for row in rows}


def table_of(rows):
    """Return how many rows are no models, and how many lose each field by a note or the schema."""
    table = Counter()
    for row in rows:
        if row.no_model:
            table["no model", row.no_model] += 1
            continue
        table.update(("noted", name) for name in row.notes)
        try:
            check_together(check(SCHEMA, {"id": row.id, **row.fields}))
        except ValidationFailed as error:
            table.update(("refused", name) for name in error.errors)
    return dict(table)
