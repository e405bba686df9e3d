"""The same catalogue with FastAPI and pydantic, as their documentation would write it."""

import json
import os
import sqlite3  # noqa: TID251 - in an environment and a process of its own
from contextlib import closing

from fastapi import FastAPI
from pydantic import BaseModel


class Permission(BaseModel):
    """A permission, in the order of the reference."""

    id: str
    object: str = "model_permission"
    created: int
    allow_create_engine: bool
    allow_sampling: bool
    allow_logprobs: bool
    allow_search_indices: bool
    allow_view: bool
    allow_fine_tuning: bool
    organization: str
    group: str | None
    is_blocking: bool


class Model(BaseModel):
    """An entry: the reference's seven fields."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    permission: list[Permission]
    root: str
    parent: str | None


class Listing(BaseModel):
    """The reply."""

    object: str = "list"
    data: list[Model]
    success: bool = True


app = FastAPI()


@app.get("/v1/models")
def list_models() -> Listing:
    """Answer all entries."""
    with closing(sqlite3.connect(os.environ["BENCH_DATABASE"])) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM models ORDER BY id").fetchall()
    return Listing(
        data=[Model(**{**dict(row), "permission": json.loads(row["permission"])}) for row in rows]
    )
