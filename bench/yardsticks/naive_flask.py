"""What most services do at each request: open SQLite, read all, marshmallow, jsonify."""

import json
import os
import sqlite3  # noqa: TID251 - in a process of its own, on a file of its own
from contextlib import closing
from typing import Any

from flask import Flask, Response, jsonify
from marshmallow import Schema, fields

DATABASE = os.environ["BENCH_DATABASE"]

app = Flask(__name__, static_folder=None)
app.json.sort_keys = False  # type: ignore[attr-defined]
app.json.compact = True  # type: ignore[attr-defined]


class PermissionSchema(Schema):
    """A permission, in the order of the reference."""

    id = fields.String()
    object = fields.Constant("model_permission")
    created = fields.Integer()
    allow_create_engine = fields.Boolean()
    allow_sampling = fields.Boolean()
    allow_logprobs = fields.Boolean()
    allow_search_indices = fields.Boolean()
    allow_view = fields.Boolean()
    allow_fine_tuning = fields.Boolean()
    organization = fields.String()
    group = fields.String(allow_none=True)
    is_blocking = fields.Boolean()


class ModelSchema(Schema):
    """An entry: the reference's seven fields."""

    id = fields.String()
    object = fields.Constant("model")
    created = fields.Integer()
    owned_by = fields.String()
    permission = fields.List(fields.Nested(PermissionSchema))
    root = fields.String()
    parent = fields.String(allow_none=True)


SCHEMA = ModelSchema(many=True)


@app.get("/v1/models")
def list_models() -> Response:
    """Answer all entries."""
    with closing(sqlite3.connect(DATABASE)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM models ORDER BY id").fetchall()
    return jsonify(object="list", data=SCHEMA.dump(map(_entry, rows)), success=True)


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "permission": json.loads(row["permission"])}
