"""CSV of our fields."""

import csv
import io
import json

from app.fields import Text
from app.schemas import AdminModelSchema
from tests.pages import examples
from tests.sources.reports import entries_of, rows_of


def test_every_field_is_a_column():
    """A text is a cell as it is, any other value is JSON."""
    ours = {k: v for k, v in examples("Entry").items() if k not in ("revision", "capabilities")}
    fields = AdminModelSchema().fields
    cells = [v if isinstance(fields[k], Text) else json.dumps(v) for k, v in ours.items()]
    cells[[*ours].index("object")] = "model"
    text = io.StringIO()
    csv.writer(text).writerows([ours, ["" if cell is None else cell for cell in cells]])
    [(model_id, row)] = entries_of(text.getvalue().encode(), "csv").items()

    assert {k: v for k, v in ours.items() if v is not None} == {"id": model_id, **row}


def test_cells_are_values():
    """Members have dotted names, lists may be words, and an empty cell is no value."""
    body = (
        "id,pricing.prompt,architecture.input_modalities,reasoning.mandatory,tags,list_aliases,name\n"
        'x,0.0000025,"text, image",TRUE,"[""a""]",false,X\n'
        "y,,,,eu,, \n"
    )

    assert {
        "x": {
            "pricing": {"prompt": "0.0000025"},
            "architecture": {"input_modalities": ["text", "image"]},
            "reasoning": {"mandatory": True},
            "tags": ["a"],
            "list_aliases": False,
            "name": "X",
        },
        "y": {"tags": ["eu"]},
    } == entries_of(body.encode())


def test_odd_cells_are_left_to_the_schema():
    """Text where a number must be, an unknown column, a member of no object: as they are."""
    body = b'id,created,tags,tags.a,nothing,x.y\n,now,"[a",b,c,d\n'
    _, [row] = rows_of(body)

    fields = {"created": "now", "tags": "[a", "nothing": "c", "x": {"y": "d"}}
    assert (1, "", fields) == (row.place, row.id, row.fields)
