"""``flask models`` for whole catalogues: the sources of imports."""

from app.catalog.sources import SourceState
from app.cli.models import group
from app.cli.terminal import as_json, echo_json, echo_table, in_utc
from app.schemas import SourceSchema
from app.services import services

_HEADINGS = ("NAME", "FORMAT", "LAST GOOD", "ADDED", "CHANGED", "REMOVED", "LAST FAILED", "REASON")


@group.command("sources")
@as_json
def list_sources(*, as_json: bool) -> None:
    """List the sources of imports: the last good and the last failed import from each.

    Example: flask models sources
    """
    sources = services().store.sources()
    if as_json:
        echo_json({"object": "list", "data": SourceSchema(many=True).dump(sources)})
    else:
        echo_table(_HEADINGS, map(_row, sources))


def _row(source: SourceState) -> tuple[object, ...]:
    good: tuple[object, ...] = (None,) * 4
    failed: tuple[object, ...] = (None,) * 2
    if (run := source.last_good) is not None:
        good = in_utc(run.at), run.added, run.changed, run.removed
    if (failure := source.last_failed) is not None:
        failed = in_utc(failure.at), failure.message
    return source.name, source.format, *good, *failed
