"""What a reply discloses: for any catalogue and viewer, nothing that this viewer may not see."""

import itertools
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import dialects_of
from app.catalog.errors import ModelNotFound
from app.catalog.model import Model
from app.catalog.paging import Window
from app.catalog.ports import Changes, StoredCatalog
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Viewer
from app.dialects import Problem
from app.replies import ReplyCache
from app.settings import Settings

#: 2027-01-15T00:00:00Z
MIDNIGHT = 1_799_971_200
DAY = 24 * 60 * 60
# No name is a part of another one, or of anything else in a reply.
IDS = ("id0x", "id1x", "id2x", "id3x", "id4x")
GHOST = "ghost-id"
ORGANIZATIONS = ("acme-org", "globex-org")
GROUPS = ("red-group", "blue-group")
VIEWERS = [
    Viewer(organization, frozenset(groups))
    for organization in (None, *ORGANIZATIONS)
    for groups in ((), GROUPS[:1], GROUPS[1:], GROUPS)
]

permissions = st.fixed_dictionaries(
    {
        "organization": st.sampled_from(("*", "*", *ORGANIZATIONS)),
        "group": st.sampled_from((None, None, *GROUPS)),
        "allow_view": st.sampled_from((True, True, True, False)),
        "is_blocking": st.sampled_from((False,) * 7 + (True,)),
    }
)
names = st.sampled_from((GHOST, *IDS))
instants = st.integers(MIDNIGHT - 3 * DAY, MIDNIGHT + 3 * DAY)
states = st.fixed_dictionaries(
    {"permission": st.lists(permissions, max_size=3)},
    optional={
        "root": names,
        "parent": st.none() | names,
        "deprecation_replacement_model": names,
        "available_from": instants,
        "shutdown_date": st.integers(12, 18).map("2027-01-{}".format),
    },
)
catalogs = st.dictionaries(st.sampled_from(IDS), states, max_size=len(IDS))
histories = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(IDS), st.none() | states, max_size=2), instants),
    max_size=4,
)


def matches(permission, viewer):
    return permission["organization"] in {"*", viewer.organization} and (
        permission["group"] in {None, *viewer.groups}
    )


def is_seen(state, viewer, now):
    """Tell whether a viewer sees an entry, in the words of the contract."""
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    if now < state.get("available_from", 0) or day >= state.get("shutdown_date", "9999"):
        return False
    matching = [p for p in state["permission"] if matches(p, viewer)]
    return any(p["allow_view"] for p in matching) and not any(p["is_blocking"] for p in matching)


def item(model_id, catalog, viewer, now):
    """Return what the contract shows a viewer of an entry: permissions and references."""
    state = catalog[model_id]

    def name(field):
        other = state.get(field)
        return other if other not in catalog or is_seen(catalog[other], viewer, now) else None

    shown = [p for p in state["permission"] if matches(p, viewer)]
    return {
        "id": model_id,
        "permission": [(p["organization"], p["group"]) for p in shown],
        "root": name("root") or model_id,
        "parent": name("parent"),
        "replacement": name("deprecation_replacement_model"),
    }


def parsed(encoded):
    return {
        "id": encoded["id"],
        "permission": [(p["organization"], p["group"]) for p in encoded["permission"]],
        "root": encoded["root"],
        "parent": encoded["parent"],
        "replacement": encoded.get("deprecation_replacement_model"),
    }


def replies(snapshot, cache, dialect, viewer):
    """Yield every reply of a dialect to a viewer, by what is asked for."""
    whole = dialect.window({})
    yield "list", cache.listing(snapshot, dialect, viewer, whole, gzipped=False)
    windows = []
    if dialect.name != "ollama":
        windows += [Window(limit=2), Window(limit=1, after="id1x"), Window(limit=9, before="id3x")]
    if dialect.name == "openai":
        windows += [Window(q="ID"), Window(limit=3, owned_by="custom")]
    for window in windows:
        yield window, cache.listing(snapshot, dialect, viewer, window, gzipped=False)
    for model_id in IDS:
        try:
            model = snapshot.find(model_id, viewer)
        except ModelNotFound as error:
            problem = Problem(
                status=404,
                code=error.code,
                message=str(error),
                model_id=error.model_id,
                replacement=error.replacement,
                request_id="req_1",
            )
            yield model_id, dialect.error(problem).replace(model_id.encode(), b"")
        else:
            yield model_id, cache.entry(dialect, model, viewer, gzipped=False)


def compose(model_id, state):
    return Model.compose({"id": model_id, **state}, now=0)


@pytest.mark.parametrize(("limit", "fields"), [(0, "all"), (10**9, "all"), (10**9, "reference")])
@settings(max_examples=30, deadline=None)
@given(catalogs, histories, instants)
def test_a_reply_discloses_what_its_viewer_may_see(limit, fields, catalog, history, now):
    """No reply has a hidden id, organization or group; equal replies alone have equal tags."""
    entries = {model_id: compose(model_id, state) for model_id, state in catalog.items()}
    snapshot = Snapshot.of(StoredCatalog(1, [*entries.values()], []), now)
    cache = ReplyCache(limit)
    dialects = [*dialects_of(Settings(reply_fields=fields))]
    for revision, (written, moment) in enumerate([({}, now), *history], 2):
        catalog = {i: s for i, s in {**catalog, **written}.items() if s is not None}
        models = {i: s and compose(i, s) for i, s in written.items()}
        if written:
            snapshot = snapshot.apply(Changes(revision, models, {}), moment)
        snapshot = snapshot.at(moment)
        contents = {}
        for viewer, dialect in itertools.product(VIEWERS, dialects):
            seen = {i for i, state in catalog.items() if is_seen(state, viewer, moment)}
            hidden = {*catalog, *ORGANIZATIONS, *GROUPS} - seen
            hidden -= {viewer.organization, *viewer.groups}
            items = {i: item(i, catalog, viewer, moment) for i in seen}
            if fields == "reference":
                items = {i: {**shown, "replacement": None} for i, shown in items.items()}
            whole = [items[i] for i in sorted(items)]
            for asked, reply in replies(snapshot, cache, dialect, viewer):
                content = getattr(reply, "content", reply).decode()
                assert [] == [name for name in hidden if name in content]
                if isinstance(reply, bytes):
                    continue
                expected = [items[asked]] if asked in items else whole
                if dialect.name == "openai":
                    data = json.loads(content).get("data", [json.loads(content)])
                    assert all(parsed(one) == items[one["id"]] for one in data)
                    shown = str(expected)
                else:
                    shown = str([one["id"] for one in expected])
                forms = contents.setdefault((dialect.name, asked), {})
                assert (content, reply.etag) == forms.setdefault(shown, (content, reply.etag))
        for (_, asked), forms in contents.items():
            tags = [tag for _, tag in forms.values()]
            # Lists that differ may have a page in common.
            assert isinstance(asked, Window) or len({*tags}) == len(tags)
