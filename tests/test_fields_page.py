"""`docs/fields.md` is what the schemas take, and what each dialect shows."""

from urllib.parse import quote

import marshmallow as ma
import pytest

from app.fields import (
    MAX_TIME,
    MAX_TOKENS,
    Ids,
    Pairs,
    Part,
    Prices,
    Seconds,
    StrictBoolean,
    StrictConstant,
    StrictInteger,
    StrictList,
    StrictNumber,
    Text,
    Texts,
    check_cutoff,
    check_date,
    check_id,
    check_moment,
)
from app.names import MIRROR_FIELDS, NAMES
from app.schemas import (
    REFERENCE_FIELDS,
    AdminModelSchema,
    KeySchema,
    PermissionSchema,
    RotationSchema,
)
from tests.dialects.derived import address
from tests.pages import PAGES, code, examples, tables

PAGE = "docs/fields.md"
#: The unit of an integer, by its greatest value.
UNITS = {MAX_TIME: "Unix seconds", MAX_TOKENS: "tokens", 90 * 24 * 60 * 60: "seconds"}
#: By the function that checks it, unit and format of a text.
FORMS = {
    check_cutoff: ("day, month or year", "`YYYY-MM-DD`, `YYYY-MM` or `YYYY`"),
    check_date: ("day (UTC)", "`YYYY-MM-DD`"),
    check_moment: ("moment", "RFC 3339"),
    check_id: ("characters", "1 to 256, see [ids](#ids)"),
}


def text(field):
    for choice in field.validators:
        if isinstance(choice, ma.validate.OneOf):
            return "string", "-", f"one of {', '.join(f'`{x}`' for x in choice.choices)}"
    form = next((FORMS[check] for check in field.validators if check in FORMS), None)
    return "string", *(form or ("characters", f"{field.least} to {field.most:,}"))


def integer(field):
    return "integer", UNITS[field.most], f"{field.least:,} to {field.most:,}"


def texts(field):
    [length], inner = field.validators, field.inner
    form = f"up to {length.max}, each of {inner.least} to {inner.most} characters"
    return "list of strings", "strings", form


def ids(field):
    return "list of strings", "ids", f"up to {field.validators[0].max}, see [ids](#ids)"


def prices(field):
    form = f"up to {field.validators[0].max}, see [prices](#prices)"
    return "object of strings", "USD for each unit", form


def pairs(field):
    [length], value = field.validators, field.value_field
    form = f"up to {length.max}, each of {value.least} to {value.most} characters"
    return "object of strings", "pairs", form


def choices(field):
    [length], [choice] = field.validators, field.inner.validators
    form = f"{length.min} to {length.max} of {', '.join(f'`{x}`' for x in choice.choices)}"
    return "list of strings", "scopes", form


def members(field):
    inner = field.schema.fields
    unit = "lists of strings" if all(isinstance(f, Texts) for f in inner.values()) else "-"
    return "object", unit, ", ".join(f"`{name}`" for name in inner)


def permissions(field):
    return "list of objects", "permissions", f"up to {field.validators[0].max}"


def described(field):
    """Return type, unit and format of a field, as the page writes them."""
    match field:
        case ma.fields.Raw():
            found = "object of booleans", "-", ""
        case StrictConstant():
            found = "string", "-", f'always `"{field.constant}"`'
        case StrictBoolean():
            found = "boolean", "-", "true or false"
        case StrictNumber():
            found = "number", "-", f"-{MAX_TOKENS:,} to {MAX_TOKENS:,}"
        case ma.fields.Integer():
            found = "integer", "-", ""
        case ma.fields.List(inner=ma.fields.Nested()):
            found = permissions(field)
        case _:
            describe = {
                Text: text,
                StrictInteger: integer,
                Seconds: integer,
                Texts: texts,
                Ids: ids,
            }
            describe |= {Pairs: pairs, Prices: prices}
            describe |= {StrictList: choices, Part: members}
            found = describe[type(field)](field)
    kind, unit, form = found
    if field.dump_only:
        return [kind, unit, "read only"]
    return [kind + (" or null" if field.allow_none else ""), unit, form]


@pytest.mark.parametrize(
    ("title", "schema"),
    [
        ("Entry", AdminModelSchema()),
        ("Permission", PermissionSchema()),
        ("Key", KeySchema()),
        ("Rotation", RotationSchema()),
    ],
)
def test_the_fields_are_those_of_the_schema(title, schema):
    """Each field has its row: type, unit, format, and an example that the schema takes."""
    rows = tables(PAGE, title)
    required = {name for name, field in schema.fields.items() if field.required}

    assert [[f"`{n}`", *described(f)] for n, f in schema.fields.items()] == [
        row[:4] for row in rows
    ]
    for name, example in examples(title).items():
        schema.fields[name].deserialize(example)  # raises what is wrong with it
    assert required | ({"id"} if title == "Entry" else set()) == {
        code(row[0])[0] for row in rows if row[5].startswith("required;")
    }


def test_an_entry_of_all_examples_can_be_stored(admin):
    """The examples of all fields make one entry, which administrators read as it was given."""
    given = {**examples("Entry"), "permission": [examples("Permission")]}
    del given["source"]
    admin.add(given["deprecation_replacement_model"])
    stored = admin("PUT", f"/admin/models/{given['id']}", given).json

    assert {**given, "revision": stored["revision"]} == stored


def shown(client, dialect, model_id, key):
    """Return what a dialect shows of the one entry: in its list, and when it is retrieved."""
    path, headers = address(dialect)
    headers["x-api-key"] = key
    [[item]] = [
        value
        for value in client.get(path, headers=headers).json.values()
        if isinstance(value, list)
    ]
    routes = dialect.routes
    if routes is not None and routes.lookup is not None:
        body = {routes.lookup_fields[0]: model_id}
        return {**item, **client.post(routes.lookup, headers=headers, json=body).json}
    return {**item, **client.get(f"{path}/{model_id}", headers=headers).json}


def test_each_dialect_shows_what_the_page_says(app, client, admin):
    """A change of one field changes what its row names in each dialect, and nothing else."""
    [*others, default] = app.extensions["roster"].dialects
    dialects = [default, *others]
    assert f"| field | {' | '.join(type(x).__name__ for x in dialects)} |" in PAGES[PAGE]
    key = admin.new_key(organization="acme", groups=["billing"])
    base = {
        "id": "x",
        "root": "x",
        "created": 1,
        "permission": [{"id": "modelperm-1", "created": 1}],
    }

    def read(entry):
        """Return the entry as each dialect shows it, in the order of the columns."""
        path = f"/admin/models/{quote(entry['id'], safe='')}"
        admin("PUT", path, entry)
        found = [shown(client, dialect, entry["id"], key) for dialect in dialects]
        admin("DELETE", path)
        return found

    facts = {n: example for n, example in examples("Entry").items() if n not in MIRROR_FIELDS}
    facts["architecture"] = {"input_modalities": ["image"], "output_modalities": ["embeddings"]}
    changed = {name: [set() for _ in dialects] for name in facts}
    for known in ({}, {"type": "image"}):  # of what makes images, less follows
        before = read(base | known)
        for name, example in facts.items():
            after = read({**base, **known, name: example})
            for names, old, new in zip(changed[name], before, after, strict=True):
                names |= {n for n in {**old, **new} if old.get(n) != new.get(n)}
    for name, names in changed.items():
        names[0].discard(name)  # its own

    assert {name: names for name, names in changed.items() if any(names)} == {
        code(row[0])[0]: [{*code(cell)} for cell in row[1:]]
        for row in tables(PAGE, "What clients read")
    }


def test_each_name_has_its_clients(app, client, admin):
    """Each name has a row with its clients, and is sent of an entry of which all is known."""
    rows = tables(PAGE, "The clients of each name")
    names = {(dialect, code(name)[0]) for dialect, name, _, _ in rows}
    dialects = {type(x).__name__: x for x in app.extensions["roster"].dialects}
    known = examples("Entry") | {"list_aliases": False}  # so that lists have one item
    known["architecture"]["input_modalities"] = known["input_modalities"] = ["image", "audio"]
    admin("PUT", f"/admin/models/{quote(known['id'], safe='')}", known)
    key = admin.new_key(organization="acme", groups=["billing"])

    # What OpenAI's dialect sends for people, and for clients of the reference.
    for_people = {"shutdown_date", "deprecation", "deprecation_replacement_model", "metadata"}
    known_to_the_reference = {*REFERENCE_FIELDS} | {n for n in known if "work_" in n}
    read = {name.partition(".")[0] for dialect, name in names if dialect == "OpenAI"}
    sent = shown(client, dialects["OpenAI"], known["id"], key).keys()
    assert for_people | known_to_the_reference | {"create_time"} == sent - read
    assert len(rows) == len(names)
    assert names >= {(d, name) for d, x in dialects.items() for name in NAMES[x.name]}
    assert all(len(row) == 4 and row[3] for row in rows)
    for dialect, name in names:
        sent = shown(client, dialects[dialect], known["id"], key)
        head, _, member = name.partition(".")
        assert head in sent, name
        assert not member or member in sent[head], name
