"""Ollama: https://github.com/ollama/ollama/blob/main/docs/api.md.

Its clients expect files on a disk. A field that an entry has no value for is empty; the context
length alone is left out. There are no pages. The words for capabilities are those of
https://github.com/ollama/ollama/blob/main/types/model/capability.go.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields

from app.catalog.errors import quote
from app.catalog.lifecycle import rfc3339
from app.catalog.model import Model
from app.catalog.paging import EVERYTHING, Page, Window
from app.dialects import Dialect, Problem, Routes
from app.dialects.encoding import join_items
from app.names import members_of
from app.strict_json import dump

#: Clients ask which version of Ollama this is; since this one they all find what they need.
_VERSION = {"version": "0.12.0"}

_FAMILY = "library"
_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": _FAMILY,
    "families": [_FAMILY],
    "parameter_size": "",
    "quantization_level": "",
}


def _digest(model: Model) -> str:
    return hashlib.sha256(model.id.encode("ascii")).hexdigest()


def _details(model: Model) -> dict[str, Any]:
    return {**_DETAILS, **members_of(model, "ollama", "details")}


def _model_info(model: Model) -> dict[str, Any]:
    return {"general.architecture": _FAMILY, **members_of(model, "ollama", "model_info")}


def _capabilities(model: Model) -> list[str]:
    """Return the vendor's names for what the model can do."""
    if model.makes_embeddings:
        return ["embedding"]
    known = {
        "completion": model.makes_text,
        "image": model.type == "image",
        **members_of(model, "ollama", "capabilities"),
    }
    return [word for word, can in known.items() if can]


class TagSchema(Schema):
    """A model in the list of tags."""

    name = fields.String(attribute="id", dump_only=True)
    model = fields.String(attribute="id", dump_only=True)
    modified_at = fields.Function(lambda model: rfc3339(model.created))
    size = fields.Constant(0)
    digest = fields.Function(_digest)
    details = fields.Function(_details)
    capabilities = fields.Function(_capabilities)


class ShownModelSchema(Schema):
    """A model by itself."""

    license = fields.Constant("")
    modelfile = fields.Constant("")
    parameters = fields.Constant("")
    template = fields.Constant("")
    details = fields.Function(_details)
    model_info = fields.Function(_model_info)
    capabilities = fields.Function(_capabilities)
    modified_at = fields.Function(lambda model: rfc3339(model.created))


_TAG = TagSchema()
_SHOWN_MODEL = ShownModelSchema()


class Ollama(Dialect):
    """The dialect of everything under ``/api/``."""

    name = "ollama"
    shows_permission = False
    default_tag = ":latest"
    routes = Routes(
        prefix="/api/",
        listing="/api/tags",
        lookup="/api/show",
        lookup_fields=("model", "name"),
        # ps lists the models that run.
        constants={"/api/version": dump(_VERSION).encode(), "/api/ps": b'{"models":[]}'},
        keyless=["/api/version"],
    )

    def __init__(self, *, auth: str | None) -> None:
        """Require keys by `auth`: most of these clients have no field for a key."""
        self.auth = auth

    def window(self, query: Mapping[str, str]) -> Window:  # noqa: ARG002
        """Return everything: the vendor has no parameters."""
        return EVERYTHING

    def entry(self, model: Model) -> bytes:
        """Return the reply to ``show``."""
        return dump(_SHOWN_MODEL.dump(model)).encode()

    def item(self, model: Model) -> bytes:
        """Return an item of the tags."""
        return dump(_TAG.dump(model)).encode()

    def listing(self, items: Sequence[bytes], page: Page, window: Window) -> bytes:  # noqa: ARG002
        """Return all tags."""
        return join_items(b'{"models":[', items, b"]}")

    def error(self, problem: Problem) -> bytes:
        """Return the message as a plain string."""
        message = problem.message
        if problem.model_id is not None:
            message = f"model '{quote(problem.model_id)}' not found"
        return dump({"error": problem.advise(message)}).encode()
