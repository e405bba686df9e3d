"""Aliases over HTTP, in every dialect: lists, pages and retrieval treat them as their entries."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from tests.writing import write

#: By dialect: the headers that select it, the path, the list's key and the key of an item's id.
DIALECTS = {
    "openai": ({}, "/v1/models", "data", "id"),
    "anthropic": ({"anthropic-version": "2023-06-01"}, "/v1/models", "data", "id"),
    "gemini": ({}, "/v1beta/models", "models", "name"),
    "ollama": ({}, "/api/tags", "models", "name"),
}
#: Organization and groups of each viewer who has a key.
READERS = [("acme", []), ("acme", ["red"]), ("globex", [])]
VIEWERS = [(None, []), *READERS]


class Reader:
    """A client of one dialect."""

    def __init__(self, client, dialect, key=None):
        self.client = client
        self.dialect = dialect
        self.headers, self.path, self.items, self.id = DIALECTS[dialect]
        self.key = {} if key is None else {"x-api-key": key}

    def get(self, path):
        return self.client.get(path, headers={**self.headers, **self.key})

    def list(self):
        """Return the items of the list by id, in order."""
        items = self.get(self.path).json[self.items]
        return {item[self.id].removeprefix("models/"): item for item in items}

    def retrieve(self, name):
        if self.dialect == "ollama":
            return self.client.post("/api/show", headers=self.key, json={"model": name})
        return self.get(f"{self.path}/{quote(name)}")


@pytest.fixture(params=DIALECTS)
def reader(client, request):
    """A client without a key, of each dialect."""
    return Reader(client, request.param)


@pytest.fixture
def put(app):
    """What stores a catalogue in place of the one before, in one transaction."""
    stored = []

    def replace(entries):
        models = [Model.compose(fields, now=0) for fields in entries]
        with app.extensions["roster"].store.transaction(actor=Actor("test"), now=0) as transaction:
            while stored:
                transaction.write([Change(stored.pop(), None)])
            stored.extend(write(transaction, model) for model in models)

    return replace


permissions = st.lists(
    st.fixed_dictionaries(
        {
            "organization": st.sampled_from(["*", "*", "acme", "globex"]),
            "group": st.sampled_from([None, None, "red"]),
            "is_blocking": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=2,
)


@st.composite
def catalogs(draw):
    """Return the fields of some entries, whose ids and aliases are unique."""
    names = draw(st.permutations(["a", "B", "b/c", "d:e", "f g", "claude-x", "0", "~", "a-1"]))
    entries = []
    while names and len(entries) < 4:
        count = draw(st.integers(0, 3))
        model_id, aliases, names = names[0], names[1 : 1 + count], names[1 + count :]
        entries.append(
            {
                "id": model_id,
                "aliases": aliases,
                "list_aliases": draw(st.booleans()),
                "permission": draw(permissions),
                "parent": draw(st.sampled_from([None, "a", "claude-x"])),
                **draw(st.sampled_from([{}, {}, {"shutdown_date": "2020-01-01"}])),
            }
        )
    return entries


def sees(viewer, entry):
    """Return whether a viewer sees an entry, by the words of the contract."""
    organization, groups = viewer
    matching = [
        p
        for p in entry["permission"]
        if p["organization"] in {"*", organization} and p["group"] in {None, *groups}
    ]
    is_permitted = bool(matching) and not any(p["is_blocking"] for p in matching)
    return is_permitted and "shutdown_date" not in entry


def unknown(reader, name):
    """Return the text with which a client of this dialect gets no answer for a name."""
    answer = reader.retrieve("nobody-knows")
    return answer.text.replace("nobody-knows", name)


def without_request_id(text):
    return {k: v for k, v in json.loads(text).items() if k != "request_id"}


def test_every_name_is_retrieved_by_who_sees_its_entry(client, admin, put):
    """In each dialect a list has what a viewer may retrieve under its own id, and says the same.

    An alias that is not listed answers the entry. Everybody else gets the answer of an unknown id.
    """
    keys = [None, *(admin.new_key(organization=o, groups=g) for o, g in READERS)]

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(catalogs())
    def each_catalogue(entries):
        put(entries)
        for (viewer, key), dialect in [
            (pair, dialect) for pair in zip(VIEWERS, keys, strict=True) for dialect in DIALECTS
        ]:
            reader = Reader(client, dialect, key)
            listed = reader.list()
            expected = set()
            for entry in entries:
                is_seen = sees(viewer, entry)
                for name in (entry["id"], *entry["aliases"]):
                    is_listed = is_seen and (name == entry["id"] or entry["list_aliases"])
                    expected |= {name} if is_listed else set()
                    answer = reader.retrieve(name)
                    if not is_seen:
                        assert 404 == answer.status_code
                        assert without_request_id(unknown(reader, name)) == without_request_id(
                            answer.text
                        )
                    elif dialect == "ollama":
                        assert 200 == answer.status_code
                        assert answer.data == reader.retrieve(entry["id"]).data
                    else:
                        assert listed[name if is_listed else entry["id"]] == answer.json
            assert sorted(expected) == [*listed]

    each_catalogue()


def test_a_listed_alias_is_an_item_of_its_own(reader, admin):
    """It has the facts of the entry and its own id; the entry has its aliases in one dialect."""
    admin.add(
        "acme/coder",
        name="Coder",
        created=1,
        context_length=8192,
        max_output_tokens=4096,
        aliases=["claude-coder"],
        list_aliases=True,
    )
    entry, alias = reader.list().values()
    own = {
        "openai": {"id": "claude-coder", "root": "acme/coder"},
        "anthropic": {"id": "claude-coder"},
        "gemini": {"name": "models/claude-coder", "baseModelId": "claude-coder"},
        "ollama": {"name": "claude-coder", "model": "claude-coder", "digest": alias.get("digest")},
    }

    assert ("openai" == reader.dialect) == (["claude-coder"] == entry.pop("aliases", None))
    assert {**entry, **own[reader.dialect]} == alias
    assert entry.get("digest") != alias.get("digest") or reader.dialect != "ollama"
    assert "list_aliases" not in entry


def test_an_alias_that_is_not_listed_answers_the_entry(reader, admin):
    """It gets the bytes and the tag of the entry, which lists show once."""
    admin.add("acme/coder", aliases=["coder", "c"])
    by_id, by_alias = map(reader.retrieve, ("acme/coder", "coder"))

    assert ["acme/coder"] == [*reader.list()]
    assert (200, by_id.data) == (by_alias.status_code, by_alias.data)
    assert by_id.headers.get("ETag") == by_alias.headers.get("ETag")


@pytest.mark.parametrize(
    ("headers", "cursor"), [({}, "after"), ({"anthropic-version": "1"}, "after_id")]
)
def test_pages_count_listed_aliases(client, admin, headers, cursor):
    """A page of one has one item, and the id of each is the cursor for the next."""
    admin.add("m", aliases=["b", "z"], list_aliases=True)
    admin.add("n", aliases=["c"])
    pages, query = [], "limit=1"
    while len(pages) < 5:
        page = client.get(f"/v1/models?{query}", headers=headers).json
        [item] = page["data"]
        pages.append((item["id"], page["has_more"]))
        query = f"limit=1&{cursor}={item['id']}"
        if not page["has_more"]:
            break

    assert [("b", True), ("m", True), ("n", True), ("z", False)] == pages


def test_pages_of_gemini_count_listed_aliases(client, admin):
    """The token of a page leads to the next item, be it an entry or an alias."""
    admin.add("m", aliases=["b", "z"], list_aliases=True)
    admin.add("n", aliases=["c"])
    names, query = [], "pageSize=1"
    while query is not None and len(names) < 5:
        page = client.get(f"/v1beta/models?{query}").json
        names += [item["name"] for item in page["models"]]
        token = page.get("nextPageToken")
        query = None if token is None else f"pageSize=1&pageToken={token}"

    assert ["models/b", "models/m", "models/n", "models/z"] == names


def test_q_finds_aliases(client, admin):
    """An entry is found by its aliases, and a listed alias by its own id and the name."""
    admin.add("m", name="Sage", aliases=["claude-m"], list_aliases=True)
    admin.add("n", aliases=["claude-n"])

    def found(path, q):
        headers = {"Authorization": f"Bearer {admin.key}"} if path.startswith("/admin") else {}
        return [m["id"] for m in client.get(f"{path}?q={q}", headers=headers).json["data"]]

    assert ["claude-m", "m", "n"] == found("/v1/models", "CLAUDE")
    assert ["claude-m", "m"] == found("/v1/models", "sage")
    assert ["m", "n"] == found("/admin/models", "claude")


def test_an_alias_of_a_retired_entry_names_the_replacement(client, admin):
    """The 404 of the alias has the words of the id's own, and the alias that replaces it."""
    admin.add(
        "old",
        aliases=["o"],
        list_aliases=True,
        shutdown_date="2020-01-01",
        deprecation_replacement_model="n",
    )
    admin.add("new", aliases=["n"])
    by_id, by_alias = (client.get(f"/v1/models/{name}") for name in ("old", "o"))

    assert (404, by_id.text.replace("'old'", "'o'")) == (by_alias.status_code, by_alias.text)
    assert "'n'" in by_alias.json["error"]["message"]


def test_names_of_hidden_entries_are_hidden_as_aliases_too(client, admin):
    """A reader who does not see an entry sees neither its id nor its aliases in another one."""
    admin.add("secret", aliases=["s"], permission=[{"organization": "acme"}])
    admin.add("x", root="s", parent="s", deprecation_replacement_model="s")
    acme = {"x-api-key": admin.new_key(organization="acme")}
    shown = []
    for headers in ({}, acme):
        item = client.get("/v1/models/x", headers=headers).json
        shown.append([item.get(n) for n in ("root", "parent", "deprecation_replacement_model")])

    assert [["x", None, None], ["s", "s", "s"]] == shown


def test_administrators_read_an_entry_by_an_alias(app, admin):
    """The route and the command show the entry under its own id."""
    admin.add("m", aliases=["x"], list_aliases=True)
    by_id, by_alias = (admin("GET", f"/admin/models/{name}") for name in "mx")
    shown = app.test_cli_runner().invoke(args=["models", "show", "x", "--json"])

    assert ("m", by_id.json) == (by_alias.json["id"], by_alias.json)
    assert by_id.headers["ETag"] == by_alias.headers["ETag"]
    assert by_id.json == json.loads(shown.stdout)
