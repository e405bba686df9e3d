"""The tables. The migrations make them; a test holds the two equal.

An entry is one JSON document in a Text column, beside its id and revision: it is written and
read whole, the log has the same documents, an optional field needs no column, and 100,000 of
them load without a join. Text and not SQL's JSON, because SQLAlchemy would parse it, and on
SQLite write it, in a way that costs twice the load.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

#: One row. Its revision and mark are the `app.catalog.ports.Position`. Its oldest schema is that
#: of the oldest program which may still write here, beside the newer one that made the tables
#: what they are. Programs of schema 2 follow the lineage, and load everything when it changes.
#: The log is complete from the revision `pruned` on; lines before it may have been removed.
catalogue = sa.Table(
    "catalogue",
    metadata,
    sa.Column(
        "only",
        sa.Integer,
        sa.CheckConstraint('"only" = 1'),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("lineage", sa.Text, nullable=False, server_default=""),
    sa.Column("oldest_schema", sa.Integer, nullable=False, server_default="1"),
    sa.Column("mark", sa.Text, nullable=False, server_default=""),
    sa.Column("pruned", sa.BigInteger, nullable=False, server_default="0"),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    sa.Column("document", sa.Text, nullable=False),
)

#: Which entry has an alias: an index of the documents, for writes. Older programs do not maintain
#: it, so a row counts only if the document of its entry has the alias.
aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Text, nullable=False),
    sqlite_with_rowid=False,  # else SQLite stores each alias twice: in the table and its index
)

#: How the imports from each source last ended, as the documents of a `GoodRun` and a `FailedRun`.
#: These are no changes of the catalogue: they take no revision.
sources = sa.Table(
    "sources",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("format", sa.Text),
    sa.Column("last_good", sa.Text),
    sa.Column("last_failed", sa.Text),
)

#: The audit, the feed that workers follow and the source of undo: one line for each revision.
#: Its mark is that of the change; its batch is the first revision of the transaction. Lines of
#: programs before schema 3 have neither. Its request id is that of the HTTP request, null for the
#: command line and a server's start.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("model_id", sa.Text),
    sa.Column("kid", sa.Text),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Column("mark", sa.Text),
    sa.Column("batch", sa.BigInteger),
    sa.Column("request_id", sa.Text),
    sa.Index("changes_by_model", "model_id", "revision"),
    sa.Index("changes_by_time", "at", "revision"),
    sa.Index("changes_by_actor", "actor", "revision"),
)
