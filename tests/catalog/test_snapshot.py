"""The image that a worker serves from: order, paging, changes, dates and retrieval."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.errors import ModelNotFound
from app.catalog.keys import ApiKey
from app.catalog.model import Model, Permission
from app.catalog.paging import EVERYTHING, Page, Window, cut
from app.catalog.ports import Changes, Image
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS, Viewer, is_visible

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
    return [entry(model_id, **fields) for model_id in ids]


def key(kid, **fields):
    return ApiKey(
        **{"kid": kid, "digest": f"digest of {kid}", "name": kid, "created": 0, **fields}
    )


def snapshot(models=(), keys=(), *, revision=1, now=MIDNIGHT):
    return Snapshot.of(Image(revision, list(models), list(keys)), now)


def ids(models):
    return [model.id for model in models]


def states(models):
    """Return what does not make two entries differ, and yet is told apart."""
    return [(model.id, model.revision, model.is_deprecated) for model in models]


#: Ids with the characters that are easily sorted wrongly.
model_ids = st.text("-./09:AZ_az~", min_size=1, max_size=3)
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
)


class TestOrder:
    def test_entries_stand_in_code_point_order(self):
        """Entries are in order of their ids' code points, whatever order they came in."""
        mixed = entries("a~", "a", "Z", "a/b", "a-b", "a.b", "B", "b", "a0", "a_", "~", "0", "a:1")

        assert [
            *("0", "B", "Z", "a", "a-b", "a.b", "a/b", "a0", "a:1", "a_", "a~", "b", "~"),
        ] == ids(snapshot(mixed).models)

    @given(catalogs, st.randoms(use_true_random=False))
    def test_any_catalogue_is_in_code_point_order(self, models, random):
        """However a catalogue is stored, its list is in the order of bytes of the ids."""
        random.shuffle(models)
        expected = sorted((model.id for model in models), key=lambda i: i.encode("utf-32-be"))

        assert expected == ids(snapshot(models).models)
        assert expected == ids(snapshot(models).audience(ANONYMOUS).models)

    def test_keys_are_oldest_first(self):
        """Keys are listed by age, those of one second by kid."""
        three = [key("c", created=1), key("b", created=1), key("a", created=2)]

        assert ["b", "c", "a"] == [k.kid for k in snapshot(keys=three).keys]


class TestCut:
    def test_everything_is_everything(self):
        """Without a window the page is the whole list and nothing is behind it."""
        models = entries("a", "b", "c")
        page = cut(models, EVERYTHING)

        assert ["a", "b", "c"] == ids(page.models)
        assert (False, "a", "c") == (page.has_more, page.first_id, page.last_id)

    def test_an_empty_page_has_no_ends(self):
        """A page without entries has neither first nor last id, and nothing behind it."""
        page = cut(entries("a"), Window(limit=1, after="a"))

        assert (Page([], has_more=False), None, None) == (page, page.first_id, page.last_id)

    @pytest.mark.parametrize(
        ("limit", "expected"), [(1, (["a"], True)), (3, (["a", "b", "c"], False)), (4, None)]
    )
    def test_a_limit_is_kept(self, limit, expected):
        """A page has at most limit entries and says whether there are more."""
        page = cut(entries("a", "b", "c"), Window(limit=limit))

        assert (expected or (["a", "b", "c"], False)) == (ids(page.models), page.has_more)

    def test_a_cursor_alone_gives_the_rest(self):
        """With a cursor and no limit the page is everything behind the cursor."""
        page = cut(entries("a", "b", "c"), Window(after="a"))

        assert (["b", "c"], False) == (ids(page.models), page.has_more)

    @pytest.mark.parametrize(
        ("after", "expected"), [("", "abd"), ("a", "bd"), ("c", "d"), ("b~", "d"), ("e", "")]
    )
    def test_a_cursor_that_names_no_entry_goes_on_from_its_place(self, after, expected):
        """A removed entry's id still marks a place in the list."""
        page = cut(entries("a", "b", "d"), Window(limit=9, after=after))

        assert list(expected) == ids(page.models)

    @given(catalogs, st.none() | st.integers(1, 5), st.none() | model_ids, model_ids)
    def test_before_is_the_part_just_before(self, models, limit, after, before):
        """A window before an id ends there, and has more when entries before it are left out."""
        listed = snapshot(models).models
        within = [i for i in ids(listed) if (after is None or i > after) and i < before]
        page = cut(listed, Window(limit=limit, after=after, before=before))

        assert within[-limit if limit else 0 :] == ids(page.models)
        assert (len(within) > len(page.models)) == page.has_more

    def test_only_limits_and_cursors_make_a_page(self):
        """A filter alone is not paging."""
        windows = [
            Window(),
            Window(owned_by="x"),
            Window(q="x"),
            Window(limit=1),
            Window(after="x"),
            Window(before="x"),
        ]

        assert [False, False, False, True, True, True] == [window.is_page for window in windows]

    def test_an_owner_is_exact(self):
        """The filter owned_by takes the whole name, in its case."""
        models = [entry("a", owned_by="meta"), entry("b", owned_by="Meta"), entry("c")]

        assert ["a"] == ids(cut(models, Window(owned_by="meta")).models)
        assert [] == ids(cut(models, Window(owned_by="met")).models)

    def test_q_looks_into_id_and_name_in_any_case(self):
        """The filter q is a substring of id or name; case is of no matter."""
        models = [entry("GPT-4"), entry("b", name="My gpt"), entry("c", name="other"), entry("d")]

        assert ["GPT-4", "b"] == ids(cut(models, Window(q="gPt")).models)
        assert ["GPT-4"] == ids(cut(models, Window(q="-4")).models)

    def test_an_empty_filter_differs_from_none(self):
        """An empty q matches everything, an empty owned_by nothing."""
        models = entries("a", "b")

        assert ["a", "b"] == ids(cut(models, Window(q="")).models)
        assert [] == ids(cut(models, Window(owned_by="")).models)

    @given(
        catalogs,
        st.integers(1, 5),
        st.none() | st.sampled_from(["custom", "openai", "nobody"]),
        st.none() | st.text("aAbB-ß", max_size=2),
    )
    def test_a_walk_meets_every_entry_once(self, models, limit, owned_by, q):
        """Page after page gives each matching entry once, in order, in pages as full as can be."""
        listed = snapshot(models).models
        expected = [
            model.id
            for model in listed
            if owned_by in (None, model.owned_by)
            and (
                q is None
                or q.casefold() in model.id.casefold()
                or q.casefold() in (model.name or "").casefold()
            )
        ]
        walked = []
        after = None
        while True:
            page = cut(listed, Window(limit=limit, after=after, owned_by=owned_by, q=q))
            walked.append(ids(page.models))
            if not page.has_more:
                break
            after = page.last_id

        assert expected == [model_id for page in walked for model_id in page]
        assert all(len(page) == limit for page in walked[:-1])
        assert walked[-1] or not expected

    @given(catalogs, st.integers(1, 5), st.data())
    def test_a_walk_survives_removals(self, models, limit, data):
        """While entries vanish, the cursor's too, a walk meets each of the others once."""
        listed = snapshot(models).models
        walked = []
        removed = set()
        page = cut(listed, Window(limit=limit))
        while page.has_more:
            walked += ids(page.models)
            gone = data.draw(st.sets(st.sampled_from(ids(listed)), max_size=3)) | {page.last_id}
            removed |= gone - set(walked)
            listed = [model for model in listed if model.id not in gone]
            page = cut(listed, Window(limit=limit, after=page.last_id))
        walked += ids(page.models)

        assert [i for i in ids(snapshot(models).models) if i not in removed] == walked

    @given(catalogs, model_ids)
    def test_a_cursor_splits_the_list_at_its_place(self, models, after):
        """Behind any cursor, an entry's id or not, are exactly the entries of greater id."""
        listed = snapshot(models).models

        assert [i for i in ids(listed) if i > after] == ids(
            cut(listed, Window(after=after)).models
        )


change_sets = st.tuples(
    st.dictionaries(model_ids, st.none() | dated_entries, max_size=4),
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(1, 9), max_size=2),
    instants,
)


class TestApply:
    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        instants,
        st.lists(change_sets, max_size=5),
    )
    def test_changes_give_what_a_fresh_image_gives(self, models, now, changes):
        """A snapshot that followed every change equals one built from scratch, dates included."""
        by_id = {model.id: model for model in models}
        keys = {"first": key("first")}
        followed = snapshot(models, keys.values(), now=now)
        revision = 1
        for changed_models, changed_keys, moment in changes:
            revision += 1
            now = moment
            news = {i: m and replace(m, id=i) for i, m in changed_models.items()}
            new_keys = {kid: key(kid, revoked_at=at) for kid, at in changed_keys.items()}
            followed = followed.apply(Changes(revision, news, new_keys), now)
            if revision % 3:  # now and then nobody asks between two changes
                followed.audience(ACME)
            by_id = {i: m for i, m in {**by_id, **news}.items() if m is not None}
            keys |= new_keys
        scratch = snapshot(by_id.values(), keys.values(), revision=revision, now=now)

        assert scratch == followed
        for viewer in (ACME, ANONYMOUS):
            expected, models = (s.audience(viewer).models for s in (scratch, followed))
            assert expected == models
            assert states(expected) == states(models)
        assert states(scratch.models) == states(followed.models)
        assert {*map(id, followed.models)} == {*map(id, followed.by_id.values())}

    def test_the_old_snapshot_stays_as_it_was(self):
        """Changes make a new snapshot; a request that holds the old one sees no part of it."""
        old = snapshot(entries("a", "b"), [key("k")])
        new = old.apply(
            Changes(2, {"a": None, "c": entry("c")}, {"k": key("k", revoked_at=5)}), MIDNIGHT
        )

        assert ["a", "b"] == sorted(old.by_id)
        assert (1, ["a", "b"], None) == (
            old.revision,
            ids(old.audience(ANONYMOUS).models),
            old.keys_by_digest["digest of k"].revoked_at,
        )
        assert (2, ["b", "c"], 5) == (
            new.revision,
            ids(new.audience(ANONYMOUS).models),
            new.keys_by_digest["digest of k"].revoked_at,
        )

    def test_an_audience_lives_on_until_it_sees_a_change(self):
        """An audience is another one after a change that it sees, and the same after any other."""
        old = snapshot(entries("a"))
        audience = old.audience(ANONYMOUS)
        hidden = old.apply(Changes(2, {"b": entry("b", permission=())}, {}), MIDNIGHT)
        shown = hidden.apply(Changes(3, {"b": entry("b")}, {}), MIDNIGHT)

        assert audience is hidden.audience(ANONYMOUS)
        assert audience is not shown.audience(ANONYMOUS)
        assert ["a", "b"] == ids(shown.audience(ANONYMOUS).models)

    def test_viewers_that_see_the_same_share_an_audience(self):
        """Keys of many organizations that see the same entries are one audience."""
        taken = snapshot([*entries("a"), entry("b", permission=())])

        assert taken.audience(ANONYMOUS) is taken.audience(ACME)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (None, {"available_from": MIDNIGHT + 5}),
            ({"available_from": MIDNIGHT + 5}, None),
            ({"available_from": MIDNIGHT + 5}, {}),
            ({}, {"shutdown_date": "2027-01-16"}),
            ({"shutdown_date": "2027-01-16"}, {"shutdown_date": "2027-01-17"}),
        ],
    )
    def test_a_date_that_comes_or_goes_moves_the_turns(self, before, after):
        """The turns after a change are those of the entries that are there then."""
        first = entries("a") if before is None else [entry("x", **before), *entries("a")]
        changed = None if after is None else entry("x", **after)
        new = snapshot(first).apply(Changes(2, {"x": changed}, {}), MIDNIGHT)
        last = entries("a") if changed is None else [*entries("a"), changed]

        assert snapshot(last).turns == new.turns
        assert snapshot(last).until == new.until


class TestTurn:
    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        instants,
        instants,
        st.sampled_from([ANONYMOUS, ACME]),
    )
    def test_a_stretch_is_right_at_any_of_its_moments(self, models, now, other, viewer):
        """What a snapshot shows is right at every moment that it covers, first and last too."""
        current = snapshot(models, now=now)
        moments = [now, other, current.since, current.until - 1]
        for moment in (m for m in moments if abs(m) != float("inf") and current.covers(m)):
            assert [m.id for m in current.models if is_visible(m, viewer, moment)] == ids(
                current.audience(viewer).models
            )

        assert current.covers(now)

    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        st.lists(instants, min_size=1, max_size=5),
    )
    def test_turning_gives_what_a_fresh_image_gives(self, models, moments):
        """However time is turned, on and back, the snapshot is that of the last moment."""
        turned = snapshot(models)
        for moment in moments:
            turned = turned.turn(moment)

        fresh = snapshot(models, now=moments[-1])
        assert fresh == turned
        assert states(fresh.models) == states(turned.models)
        assert {*map(id, turned.models)} == {*map(id, turned.by_id.values())}

    def test_only_what_becomes_deprecated_is_another_entry(self):
        """At a deprecation one entry is another object and the audience another one."""
        models = [entry("a"), entry("b", deprecation="2027-01-16T00:00:00Z")]
        before = snapshot(models)
        after = before.turn(MIDNIGHT + DAY)

        assert [False, True] == [model.is_deprecated for model in after.models]
        assert before.by_id["a"] is after.by_id["a"]
        assert before.by_id["b"] is not after.by_id["b"]
        assert before.audience(ANONYMOUS) is not after.audience(ANONYMOUS)
        assert not before.by_id["b"].is_deprecated

    def test_the_stretch_ends_at_the_nearest_turns(self):
        """A snapshot covers the time from the last turn to before the next one."""
        models = [
            entry("a", available_from=MIDNIGHT - 10),
            entry("b", available_from=MIDNIGHT + 10, shutdown_date="2027-01-16"),
            entry("c"),
        ]
        current = snapshot(models)

        assert [MIDNIGHT - 10, MIDNIGHT + 10, MIDNIGHT + DAY] == current.turns
        assert (MIDNIGHT - 10, MIDNIGHT + 10) == (current.since, current.until)
        assert [False, True, True, False] == [
            current.covers(MIDNIGHT + s) for s in (-11, -10, 9, 10)
        ]

    def test_without_dates_a_snapshot_is_for_ever(self):
        """A catalogue without dates has one stretch of time, all of it."""
        current = snapshot(entries("a"))

        assert (True, True) == (current.covers(-(2**60)), current.covers(2**60))
        assert ["a"] == ids(current.audience(ANONYMOUS).models)

    def test_before_the_first_turn_nothing_dated_has_come(self):
        """Before all turns, entries to come are hidden and entries to go are there."""
        models = [
            entry("new", available_from=MIDNIGHT + 1),
            entry("old", shutdown_date="2027-01-16"),
        ]

        assert ["old"] == ids(snapshot(models).audience(ANONYMOUS).models)

    def test_a_turn_keeps_revision_keys_and_entries(self):
        """Turning writes nothing: revision, keys and the administrator's list stay."""
        models = [entry("new", available_from=MIDNIGHT + 1)]
        before = snapshot(models, [key("k")], revision=7)
        after = before.turn(MIDNIGHT + 1)

        assert (7, ["new"], before.keys_by_digest) == (
            after.revision,
            ids(after.models),
            after.keys_by_digest,
        )
        assert ([], ["new"]) == (
            ids(before.audience(ANONYMOUS).models),
            ids(after.audience(ANONYMOUS).models),
        )


class TestFind:
    def refused(self, models, model_id, viewer=ANONYMOUS):
        with pytest.raises(ModelNotFound) as caught:
            snapshot(models).find(model_id, viewer)
        return str(caught.value), caught.value.code, caught.value.replacement

    def test_a_visible_entry_is_found(self):
        """An entry is found by its id, by whoever sees it."""
        mine = entry("a", organization="acme")

        assert mine is snapshot([mine]).find("a", ACME)

    @pytest.mark.parametrize(
        "hidden",
        [
            {"organization": "acme"},
            {"permission": ()},
            {"available_from": MIDNIGHT + 1},
            {"shutdown_date": "2027-01-15"},
            {"shutdown_date": "2027-01-15", "deprecation_replacement_model": "nowhere"},
            {"organization": "acme", "deprecation_replacement_model": "new"},
            {"available_from": MIDNIGHT + 1, "deprecation_replacement_model": "new"},
            {
                "shutdown_date": "2027-01-15",
                "organization": "acme",
                "deprecation_replacement_model": "new",
            },
        ],
    )
    def test_hidden_is_the_same_as_unknown(self, hidden):
        """A hidden entry answers exactly as one that was never there."""
        unknown = self.refused(entries("new"), "x")

        assert unknown == self.refused([entry("x", **hidden), entry("new")], "x")

    def test_a_retired_entry_names_its_replacement(self):
        """A viewer who may see both is told what replaces a retired entry."""
        retired = entry(
            "old",
            organization="acme",
            shutdown_date="2027-01-15",
            deprecation_replacement_model="new",
        )
        models = [retired, entry("new", organization="acme")]

        assert "new" == self.refused(models, "old", ACME)[2]
        assert None is self.refused(models, "old", ANONYMOUS)[2]

    @pytest.mark.parametrize(
        "replacement",
        [
            {"organization": "globex"},
            {"permission": ()},
            {"available_from": MIDNIGHT + 1},
            {"shutdown_date": "2027-01-15"},
        ],
    )
    def test_a_hidden_replacement_is_not_named(self, replacement):
        """A retired entry does not betray a replacement that the viewer does not see."""
        retired = entry("old", shutdown_date="2027-01-15", deprecation_replacement_model="new")
        models = [retired, entry("new", **replacement)]

        assert None is self.refused(models, "old", ACME)[2]

    def test_a_replaced_entry_that_is_live_is_found(self):
        """An entry with a replacement and a date to come is found as ever."""
        going = entry("old", shutdown_date="2027-01-16", deprecation_replacement_model="new")

        assert going is snapshot([going, entry("new")]).find("old", ANONYMOUS)

    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        model_ids,
        instants,
        st.sampled_from([ANONYMOUS, ACME]),
    )
    def test_list_and_retrieve_agree(self, models, unknown, now, viewer):
        """What is listed is found, what is not listed is not, for any catalogue and viewer."""
        current = snapshot(models, now=now)
        found = []
        for model_id in sorted({*ids(models), unknown}):
            try:
                found.append(current.find(model_id, viewer).id)
            except ModelNotFound:
                continue

        assert ids(current.audience(viewer).models) == found
