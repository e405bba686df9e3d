"""The operation routes, for load balancers and monitoring. They need no key."""

import re

from flask import Blueprint, Response

from app.api.auth import may_see_counts
from app.api.context import request
from app.api.http import json_reply
from app.catalog.errors import RosterError, StoreUnavailable
from app.services import VERSION
from app.settings import short_path
from app.store.schema import HEAD

blueprint = Blueprint("operation", __name__)

# Folders of paths, and hosts and users in the messages of a PostgreSQL client.
_LOCATIONS = re.compile(
    r"""(?<![^\s'"(=]) / \S* /
    | "[^"]*" (\ \([^)]*\))?
    | (?<=\bhost\ ) '[^']*'
    | (?<=\bhost:\ ) '[^']*'
    | (?<=\bhostaddr:\ ) '[^']*'""",
    re.VERBOSE,
)


class MetricsMissing(RosterError):
    """The package that ``/metrics`` needs is not installed."""

    code = "unknown_url"

    def __init__(self) -> None:
        super().__init__("There are no metrics: install Roster with its extra 'metrics'.")


@blueprint.get("/")
def index() -> Response:
    """Return name, version and links."""
    links = {"models": "/v1/models", "health": "/healthz", "readiness": "/readyz"}
    return json_reply({"name": "Roster", "version": VERSION, "links": links})


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return that the process is up; the store is not read."""
    return json_reply({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """Return whether lists are answered, from which snapshot, and whether the store can be read.

    ``image_age`` is in seconds, since the store last confirmed that the snapshot is current.
    During an outage the status stays 200 while lists are answered: all hosts have the outage at
    once, and a load balancer that removes them all leaves nobody to answer from the last snapshot.
    Reasons are shown without the locations that they name, and the numbers, which count hidden
    entries too, to administrators and this host alone.
    """
    current = request.context
    catalog, writes = current.services.catalog, current.services.store.writer.writes
    try:
        snapshot = current.snapshot
    except StoreUnavailable as error:
        reason = _without_locations(error.reason)
        return json_reply({"status": "unavailable", "store": reason, "writes": writes}, 503)
    is_stale = current.stale is not None
    outage = catalog.outage or "ok"  # it may just have ended
    facts = {
        "status": "stale" if is_stale else "ready",
        "store": _without_locations(outage) if is_stale else "ok",
        "writes": writes,
        "image_age": round(catalog.age, 3),
    }
    if may_see_counts():
        facts["schema"] = HEAD
        facts["revision"] = snapshot.revision
        facts["entries"] = len(snapshot.models)
    return json_reply(facts)


def _without_locations(reason: str) -> str:
    settings = request.context.services.settings
    names = {settings.database_name}
    for path in (settings.database_path, settings.first_key_path, settings.admin_key_file):
        if path is not None:
            names |= {str(path), short_path(path), str(path.absolute())}
            names |= {str(folder) for folder in path.absolute().parents}
    # The paths of the settings may be relative, or have spaces, which the pattern does not find.
    folders = {f"{name.rpartition('/')[0]}/" for name in names} - {"/"}
    for folder in sorted(folders, key=len, reverse=True):
        reason = reason.replace(folder, "")
    return _LOCATIONS.sub("", reason)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the counts of all workers together, in the format that Accept selects."""
    own = request.context.services.metrics
    if own is None:
        raise MetricsMissing
    # Imported here, because it takes time that only requests for metrics should pay.
    from app.metrics.exposition import expose  # noqa: PLC0415

    body, content_type = expose(own.gather(), request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)
