"""Entries, keys and runs of imports as the JSON documents that the tables and the log hold."""

import json
import re
from dataclasses import asdict, fields
from typing import Any, NoReturn

from app.catalog.errors import InvalidJson, StoreUnavailable, ValidationFailed, quote
from app.catalog.keys import ApiKey
from app.catalog.model import Model, Permission, new
from app.catalog.sources import FailedRun, GoodRun, SourceState
from app.fields import ONCE_TAKEN, UNWANTED, Seconds, Text
from app.names import MIRROR_FIELDS
from app.schemas import MAX_MESSAGE, AdminModelSchema, KeySchema, SourceSchema, check_known
from app.strict_json import dump, parse_object

#: The longest document that is read of an untrusted file, in characters.
_MAX_DOCUMENT = 1024 * 1024
_KID = re.compile(r"[0-9A-Za-z]{8}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

# Fields that are not compared, such as the revision, are not part of the document.
_MODEL_FIELDS = [f.name for f in fields(Model) if f.compare and f.name != "permission"]
_PERMISSION_FIELDS = [f.name for f in fields(Permission) if f.compare]
_KEY_FIELDS = [f.name for f in fields(ApiKey) if f.compare and f.name not in ("kid", "digest")]
_KNOWN = {
    Model: {*_MODEL_FIELDS, "permission"},
    Permission: {*_PERMISSION_FIELDS},
    ApiKey: {*_KEY_FIELDS},
}


class _StoredKeySchema(KeySchema):
    """A key with what only we set."""

    created = Seconds(required=True)
    retires_at = Seconds(allow_none=True)
    revoked_at = Seconds(allow_none=True)


class _StoredModelSchema(AdminModelSchema):
    """An entry with what only we set."""

    read_only = AdminModelSchema.read_only - {"source"}

    source = Text()


# No stored entry has the other names of facts.
_MODEL = _StoredModelSchema(exclude=MIRROR_FIELDS)
_STORED_KEY = _StoredKeySchema()
_SOURCE = SourceSchema()


def write_model(model: Model) -> str:
    """Return the document of an entry: all of it but its revision."""
    known = ((name, getattr(model, name)) for name in _MODEL_FIELDS)
    document = {name: value for name, value in known if value is not None}
    document["permission"] = [
        _with_unknown(permission, {name: getattr(permission, name) for name in _PERMISSION_FIELDS})
        for permission in model.permission
    ]
    return dump(_with_unknown(model, document))


def read_object(document: str, kind: str = "line of the log") -> dict[str, Any]:
    """Return the object that a document is; raise `StoreUnavailable` if it is none.

    Its members are not checked. What pg_restore has put into the database may be anything. `kind`
    names, in the message, what the document is of.
    """
    try:
        known = _decoder.decode(document)
        if "\\u" in document:  # perhaps a half of a character, which no answer can have
            dump(known).encode()
    except (RecursionError, ValueError) as error:
        raise StoreUnavailable(f"A stored {kind} cannot be read: {quote(str(error))}") from error
    if not isinstance(known, dict):
        raise StoreUnavailable(f"A stored {kind} cannot be read: it is no object.")
    return known


def read_model(document: str, revision: int) -> Model:
    """Return the entry of a stored document; `StoreUnavailable` if it is not one of ours.

    Members of a newer program, which this one does not know, become `unknown_members`.
    """
    try:
        known = _separate_unknown(Model, read_object(document, "entry"))
        permission = tuple(
            [new(Permission, _separate_unknown(Permission, p)) for p in known.pop("permission")]
        )
        return new(Model, {**known, "permission": permission, "revision": revision})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"A stored entry cannot be read: {quote(str(error))}") from error


def check_model(document: object, revision: int) -> Model:
    """Return the entry of an untrusted document, with each known field checked.

    Raises a `RosterError` that says what is wrong with it.
    """
    check_known(_MODEL, parse_untrusted(document))
    return read_model(str(document), revision)


def write_key(key: ApiKey) -> str:
    """Return the document of a key: neither kid nor digest, so that the log has no digest."""
    return dump(_with_unknown(key, {name: getattr(key, name) for name in _KEY_FIELDS}))


def read_key(kid: str, digest: str, document: str) -> ApiKey:
    """Return the key of a stored row; `StoreUnavailable` if it is not one of ours."""
    try:
        known = _separate_unknown(ApiKey, read_object(document, "key"))
        known["scopes"] = tuple(known["scopes"])
        known["groups"] = tuple(known["groups"])
        return ApiKey(kid=kid, digest=digest, **known)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"A stored key cannot be read: {quote(str(error))}") from error


def check_key(kid: object, digest: object, document: object) -> ApiKey:
    """Return the key of an untrusted row, with each known field checked.

    Raises a `RosterError` that says what is wrong with it.
    """
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise StoreUnavailable("The id of a key is 8 letters and digits.")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise StoreUnavailable("The digest of a key is 64 of 0-9 and a-f.")
    check_known(_STORED_KEY, parse_untrusted(document))
    return read_key(kid, digest, str(document))


def write_run(run: GoodRun | FailedRun) -> str:
    """Return the document of a run; its message is cut to `MAX_MESSAGE` printable characters."""
    document = asdict(run)
    if isinstance(run, FailedRun):
        printable = UNWANTED.sub("\N{REPLACEMENT CHARACTER}", run.message[:MAX_MESSAGE])
        document["message"] = printable
    return dump(document)


def read_source(name: str, known_format: str | None, *runs: object) -> SourceState:
    """Return the source of a row, which may be untrusted, with each known member checked.

    Its `runs` are the documents of the last good and of the last failed one.
    """
    try:
        good, failed = (None if run is None else parse_untrusted(run) for run in runs)
        row = {"name": name, "format": known_format, "last_good": good, "last_failed": failed}
        known = check_known(_SOURCE, row)
    except (InvalidJson, ValidationFailed) as error:
        raise StoreUnavailable(f"A stored run cannot be read: {error}") from error
    good, failed = known["last_good"], known["last_failed"]
    return SourceState(
        name, known_format, good and GoodRun(**good), failed and FailedRun(**failed)
    )


def parse_untrusted(document: object) -> dict[str, Any]:
    """Return the JSON object of an untrusted document; its fields are not checked."""
    if not isinstance(document, str) or len(document) > _MAX_DOCUMENT:
        raise StoreUnavailable(f"A document is a text of at most {_MAX_DOCUMENT} characters.")
    # Texts may have this character, ids may not.
    return parse_object(ONCE_TAKEN.sub("\N{NO-BREAK SPACE}", document).encode())


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_constant=_refuse)


def _separate_unknown(kind: type, document: dict[str, Any]) -> dict[str, Any]:
    """Return `document` with the members that `kind` does not have in `unknown_members`."""
    known = _KNOWN[kind]
    if document.keys() <= known:
        return document
    unknown = {name: value for name, value in document.items() if name not in known}
    document = {name: value for name, value in document.items() if name in known}
    return {**document, "unknown_members": unknown}


def _with_unknown(stored: Model | Permission | ApiKey, known: dict[str, Any]) -> dict[str, Any]:
    return {**known, **(stored.unknown_members or {})}
