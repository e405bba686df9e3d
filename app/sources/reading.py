"""The bytes of a file as `Content`: JSON, NDJSON, CSV or lines.

Everything is read once, in time and memory that grow with the length of the file.
"""

import codecs
import csv
import io
from collections.abc import Mapping
from typing import Any

from app.catalog.errors import InvalidJson, InvalidValue
from app.sources import Content, Kind
from app.strict_json import decode, parse

#: The longest file, in bytes.
MAX_FILE = 64 * 1024 * 1024  # 64 MiB
#: What a file of each media type is; None is what its first line says.
MEDIA_TYPES: Mapping[str, Kind | None] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "text/csv": "csv",
    "text/plain": None,
}
_DELIMITERS = ",;\t"
_HTML = (b"<!doctype html", b"<html")
#: The most values of a file, by the characters between them: 64 MiB of a real catalogue have as
#: many. One may be a byte long, and takes up to 300 bytes of memory.
MAX_VALUES = 4_000_000


def read(body: bytes, media_type: str | None = None) -> Content:
    """Return the content of a file; without one of `MEDIA_TYPES` its first line says what it is.

    Raises `InvalidJson` or `InvalidValue` for bytes that are nothing of the kind.
    """
    if not body.removeprefix(codecs.BOM_UTF8).strip():
        raise InvalidValue("format", "The file is empty: it must be a list of models.")
    if body[:100].removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(_HTML):
        raise InvalidValue(
            "format",
            "The file is an HTML page and no catalogue: is the URL right, and does it want a key?",
        )
    kind = MEDIA_TYPES.get(media_type or "") or _kind_of(body)
    between = b",[{" if kind == "json" else b",;\t[{\n"
    if sum(body.count(mark) for mark in between) > MAX_VALUES:
        raise InvalidValue("format", f"The file has more than {MAX_VALUES:,} values: split it.")
    if kind == "ndjson":
        return Content(kind, _lines_of_json(body))
    if kind == "json":
        value = parse(body)
        # One line of NDJSON is also JSON.
        one = isinstance(value, dict) and isinstance(value.get("id"), str) and "data" not in value
        return Content("ndjson", [value]) if one else Content("json", value)
    text = decode(body.removeprefix(codecs.BOM_UTF8))  # spreadsheet programs write one
    return Content(kind, _table(text) if kind == "csv" else text.split("\n"))


def _kind_of(body: bytes) -> Kind:
    line, _, rest = body.removeprefix(codecs.BOM_UTF8).strip().partition(b"\n")
    if not line.startswith((b"{", b"[")):
        return "csv" if "id" in _header(line.decode(errors="replace")) else "text"
    try:
        return "ndjson" if rest and isinstance(parse(line), dict) else "json"
    except InvalidJson:  # of an object of many lines, the first is none
        return "json"


def _lines_of_json(body: bytes) -> list[Any]:
    values = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                values.append(parse(line))
            except InvalidJson as error:
                raise InvalidJson(f"Line {number} of the file: {error}") from None
    return values


def _header(line: str) -> list[str]:
    return [name.strip(' "\r') for name in line.split(_delimiter(line))]


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _table(text: str) -> list[dict[str, str]]:
    text = text.lstrip()
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]), strict=True
    )
    try:
        header = [name.strip() for name in next(rows)]
        if len(set(header)) < len(header):
            raise InvalidValue("format", "The file is CSV that has a column twice.")
        return [dict(zip(header, row, strict=len(row) > len(header))) for row in rows if row]
    except csv.Error as error:
        raise InvalidValue(
            "format", f"The file is no CSV at line {rows.line_num}: {error}."
        ) from None
    except ValueError:
        raise InvalidValue(
            "format", f"Line {rows.line_num} of the file has more cells than the header."
        ) from None
