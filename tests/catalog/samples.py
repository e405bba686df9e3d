"""Entries, keys and snapshots for the tests of this folder."""

from hypothesis import strategies as st

from app.catalog.keys import ApiKey
from app.catalog.model import Model, Permission
from app.catalog.ordered import OrderedModels
from app.catalog.paging import EVERYTHING, cut
from app.catalog.ports import StoredCatalog
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Viewer

#: 2027-01-15T00:00:00Z
MIDNIGHT = 1_799_971_200
DAY = 24 * 60 * 60
ACME = Viewer("acme")


def entry(model_id, *, organization="*", owned_by="custom", **fields):
    permission = Permission(id="modelperm-x", created=0, organization=organization)
    return Model(
        **{
            "id": model_id,
            "created": 0,
            "owned_by": owned_by,
            "root": model_id,
            "permission": (permission,),
            **fields,
        }
    )


def entries(*ids, **fields):
    return OrderedModels(entry(model_id, **fields) for model_id in ids)


def key(kid, **fields):
    return ApiKey(
        **{"kid": kid, "digest": f"digest of {kid}", "name": kid, "created": 0, **fields}
    )


def snapshot(models=(), keys=(), *, revision=1, now=MIDNIGHT):
    return Snapshot.of(StoredCatalog(revision, list(models), list(keys)), now)


def ids(models):
    return [model.id for model in models]


def listed(audience):
    """Return the entries that an audience sees, in order."""
    return cut(audience.lists, EVERYTHING).models


def states(models):
    """Return the parts of entries that equality ignores."""
    return [(model.id, model.revision, model.is_deprecated, model.references) for model in models]


def items(models):
    """Return what lists show of `models` as long as all is live: by name, the entry."""
    by_name = {}
    for model in sorted(models, key=lambda m: m.id, reverse=True):
        by_name |= dict.fromkeys(model.aliases or (), model)
    by_name |= {model.id: model for model in models}
    listed = {i: m for i, m in by_name.items() if i == m.id or m.list_aliases}
    return dict(sorted(listed.items()))


#: Ids with the characters that are easily sorted wrongly; often one of a few.
model_ids = st.sampled_from("aAz") | st.text("-./09:AZ_az~", min_size=1, max_size=3)
dates = st.none() | st.integers(-3, 3).map(lambda days: f"2027-01-{15 + days}")
instants = st.integers(MIDNIGHT - 3 * DAY, MIDNIGHT + 3 * DAY)
names = st.none() | st.text("aAbBß", max_size=3)
catalogs = st.dictionaries(
    model_ids,
    st.tuples(names, st.sampled_from(["custom", "openai"])),
    max_size=12,
).map(lambda d: [entry(i, name=n, owned_by=o) for i, (n, o) in d.items()])
dated_entries = st.builds(
    entry,
    model_ids,
    organization=st.sampled_from(["*", "acme"]),
    available_from=st.none() | instants,
    shutdown_date=dates,
    deprecation=dates.map(lambda day: day and f"{day}T12:00:00Z"),
    revision=st.integers(1, 100),
    parent=st.none() | model_ids,
    deprecation_replacement_model=st.none() | model_ids,
    aliases=st.none() | st.lists(model_ids, max_size=2, unique=True),
    list_aliases=st.none() | st.booleans(),
)
