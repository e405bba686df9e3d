"""``flask models`` for whole catalogues: import, export, and the sources of imports."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from app.administration.imports import ON_CONFLICT, ImportOptions
from app.administration.plans import Applied, Applying
from app.catalog.errors import quote
from app.catalog.sources import SourceState
from app.cli.assignments import read_fields
from app.cli.files import access, read_all
from app.cli.models import group
from app.cli.plans import Mode, carry_out, planning
from app.cli.terminal import Refusal, actor, as_json, echo_json, echo_table, in_utc
from app.schemas import SourceSchema
from app.services import services
from app.sources.roster import export
from app.store.files import new_file

_HEADINGS = ("NAME", "FORMAT", "LAST GOOD", "ADDED", "CHANGED", "REMOVED", "LAST FAILED", "REASON")
#: From how many rows on a bar shows how many are checked.
_MANY = 2_000
#: So many characters of a reason are in the table; ``--json`` has all.
_REASON = 120


@group.command("import")
@click.argument("file")
@click.option("--format", default="auto", help="The format; auto recognises it.")
@click.option("--source", metavar="NAME", help="What entries remember; the format, if left out.")
@click.option("--prefix", is_flag=True, help="Make ids of PROVIDER/ID.")
@click.option(
    "--on-conflict",
    type=click.Choice(ON_CONFLICT),
    metavar="WAY",
    default="fail",
    help="What to do with an id that exists and differs: fail, skip or update.",
)
@click.option(
    "--set", "assignments", metavar="FIELD=VALUE", multiple=True, help="Set it in all rows."
)
@click.option("--hidden", is_flag=True, help="Show new entries to nobody, until you allow it.")
@click.option("--prune", is_flag=True, help="Remove what this source has added and has no more.")
@click.option("--retire", metavar="DATE", help="Let that retire on a date, instead.")
@click.option("--partial", is_flag=True, help="Leave out the rows that are refused.")
@click.option("--force", is_flag=True, help="Change also what a person has changed or removed.")
@planning
def import_models(
    file: str, assignments: tuple[str, ...], mode: Mode, *, partial: bool, **given: Any
) -> None:
    """Bring the entries in step with a catalogue: a file, a URL, or - for standard input.

    What would change is shown, and you are asked whether to do it.

    Example: flask models import models.json --source proxy --on-conflict update --prune
    """
    mode = mode.ask_on(None if file == "-" else sys.stdin)
    options = ImportOptions(fields=read_fields(None, assignments), **given)
    changes = services().catalogues
    try:
        body = read_all(file)
    except click.ClickException as error:
        if not mode.dry_run:
            changes.record_failure(options, Refusal(error.message))
        raise

    def run(applying: Applying) -> Applied:
        return changes.import_catalogue(body, options, applying, actor=actor(), progress=_progress)

    carry_out(run, "Imported", mode, partial=partial)


@group.command("export")
@click.argument("file", default="-")
@click.option(
    "--format",
    type=click.Choice(["roster", "ndjson"]),
    metavar="FORMAT",
    default="roster",
    help="roster: one JSON object; ndjson: an entry a line.",
)
@as_json
def export_models(file: str, format: str, *, as_json: bool) -> None:  # noqa: A002
    """Write all entries, as import takes them back, to FILE or standard output.

    FILE must not exist yet. It has neither keys nor the history: 'flask db backup' has these.

    Example: flask models export models.json
    """
    models = services().catalog.current().models
    chunks = export(models, ndjson=format == "ndjson")
    if file == "-":
        sys.stdout.buffer.writelines(chunks)
        return
    with access(Path(file), "written"), new_file(Path(file)) as draft, draft.open("wb") as stream:
        stream.writelines(chunks)
    if as_json:
        echo_json({"file": file, "entries": len(models), "size": Path(file).stat().st_size})
    else:
        click.echo(f"Wrote {file}: {len(models):,} entries.")


@group.command("sources")
@as_json
def list_sources(*, as_json: bool) -> None:
    """List the sources of imports: the last good and the last failed import from each.

    The table has the beginning of the reason of a failure, and --json all of it.

    Example: flask models sources
    """
    sources = services().store.sources()
    if as_json:
        echo_json({"object": "list", "data": SourceSchema(many=True).dump(sources)})
    else:
        echo_table(_HEADINGS, map(_row, sources))


def _progress(items: Sequence[Any]) -> Iterator[Any]:
    """Yield `items`; if they are many, a bar shows how many were taken."""
    is_hidden = len(items) <= _MANY or not sys.stderr.isatty()
    with click.progressbar(items, label="Checking", file=sys.stderr, hidden=is_hidden) as bar:
        yield from bar


def _row(source: SourceState) -> tuple[object, ...]:
    good: tuple[object, ...] = (None,) * 4
    failed: tuple[object, ...] = (None,) * 2
    if (run := source.last_good) is not None:
        good = in_utc(run.at), run.added, run.changed, run.removed
    if (failure := source.last_failed) is not None:
        failed = in_utc(failure.at), quote(failure.message, _REASON)
    return source.name, source.format, *good, *failed
