"""What a worker serves from: order, changes, dates and retrieval."""

import gc
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.errors import ModelNotFound
from app.catalog.ports import Changes
from app.catalog.snapshot import MAX_CHAIN
from app.catalog.visibility import ANONYMOUS, is_visible, with_references
from tests.catalog.samples import (
    ACME,
    DAY,
    MIDNIGHT,
    catalogs,
    dated_entries,
    entries,
    entry,
    ids,
    instants,
    items,
    key,
    listed,
    model_ids,
    snapshot,
    states,
)


class TestOrder:
    def test_entries_are_in_code_point_order(self):
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
        assert expected == ids(listed(snapshot(models).audiences.of_viewer(ANONYMOUS)))

    def test_keys_are_oldest_first(self):
        """Keys are listed by age, those of one second by kid."""
        three = [key("c", created=1), key("b", created=1), key("a", created=2)]

        assert ["b", "c", "a"] == [k.kid for k in snapshot(keys=three).keys]


change_sets = st.tuples(
    st.dictionaries(model_ids, st.none() | dated_entries, max_size=4),
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(1, 9), max_size=2),
    instants,
)


def found(current, viewer):
    """Return by name what a viewer retrieves, or the replacement that the error names."""
    results = {}
    for name in sorted({name for model in current.models for name in model.ids}):
        try:
            results[name] = states([current.find(name, viewer)])
        except ModelNotFound as error:
            results[name] = error.replacement
    return results


class TestApply:
    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        instants,
        st.lists(change_sets, max_size=5),
    )
    def test_changes_give_what_a_fresh_snapshot_gives(self, models, now, changes):
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
                followed.audiences.of_viewer(ACME)
            by_id = {i: m for i, m in {**by_id, **news}.items() if m is not None}
            keys |= new_keys
        scratch = snapshot(by_id.values(), keys.values(), revision=revision, now=now)

        assert scratch == followed
        for viewer in (ACME, ANONYMOUS):
            expected, models = (listed(s.audiences.of_viewer(viewer)) for s in (scratch, followed))
            assert expected == models
            assert states(expected) == states(models)
            assert found(scratch, viewer) == found(followed, viewer)
        assert states(scratch.models) == states(followed.models)

    def test_the_old_snapshot_stays_as_it_was(self):
        """Changes make a new snapshot; a request that holds the old one sees no part of it."""
        old = snapshot(entries("a", "b"), [key("k")])
        new = old.apply(
            Changes(2, {"a": None, "c": entry("c")}, {"k": key("k", revoked_at=5)}), MIDNIGHT
        )

        assert [True, True, False] == [old.get(i) is not None for i in "abc"]
        assert (1, ["a", "b"], None) == (
            old.revision,
            ids(listed(old.audiences.of_viewer(ANONYMOUS))),
            old.keys_by_digest["digest of k"].revoked_at,
        )
        assert (2, ["b", "c"], 5) == (
            new.revision,
            ids(listed(new.audiences.of_viewer(ANONYMOUS))),
            new.keys_by_digest["digest of k"].revoked_at,
        )

    def test_an_audience_lives_on_until_it_sees_a_change(self):
        """An audience is another one after a change that it sees, and the same after any other."""
        old = snapshot(entries("a"))
        audience = old.audiences.of_viewer(ANONYMOUS)
        hidden = old.apply(Changes(2, {"b": entry("b", permission=())}, {}), MIDNIGHT)
        shown = hidden.apply(Changes(3, {"b": entry("b")}, {}), MIDNIGHT)

        assert audience.state == hidden.audiences.of_viewer(ANONYMOUS).state
        assert audience.state != shown.audiences.of_viewer(ANONYMOUS).state
        assert ["a", "b"] == ids(listed(shown.audiences.of_viewer(ANONYMOUS)))

    def test_a_write_copies_nothing_that_it_does_not_change(self):
        """A change of an entry leaves the keys as they are, and a change of a key the entries."""
        old = snapshot(entries("a", "b"), [key("k")])
        written = old.apply(Changes(2, {"a": entry("a")}, {}), MIDNIGHT)
        keyed = old.apply(Changes(2, {}, {"n": key("n")}), MIDNIGHT)

        assert old.keys_by_digest is written.keys_by_digest
        assert old.models is keyed.models
        assert old.audiences.of_viewer(ACME) is keyed.audiences.of_viewer(ACME)

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
    def test_a_changed_date_changes_the_boundaries(self, before, after):
        """The boundaries after a change are those of the entries after it."""
        first = entries("a") if before is None else [entry("x", **before), *entries("a")]
        changed = None if after is None else entry("x", **after)
        new = snapshot(first).apply(Changes(2, {"x": changed}, {}), MIDNIGHT)
        last = entries("a") if changed is None else [*entries("a"), changed]

        assert snapshot(last).boundaries == new.boundaries
        assert snapshot(last).until == new.until


class TestDates:
    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        instants,
        instants,
        st.sampled_from([ANONYMOUS, ACME]),
    )
    def test_a_snapshot_is_right_while_it_is_valid(self, models, now, other, viewer):
        """What a snapshot shows is right at every moment from since to before until."""
        current = snapshot(models, now=now)
        moments = [now, current.since, current.until - 1]
        moments += [other] if current.since <= other < current.until else []
        for moment in (m for m in moments if abs(m) != float("inf")):
            assert [
                name for name, m in items(current.models).items() if is_visible(m, viewer, moment)
            ] == ids(listed(current.audiences.of_viewer(viewer)))

        assert current.since <= now < current.until

    @given(
        st.lists(dated_entries, max_size=6, unique_by=lambda m: m.id),
        st.lists(instants, min_size=1, max_size=5),
    )
    def test_another_time_gives_what_a_fresh_snapshot_gives(self, models, moments):
        """Whether time goes on or back, the snapshot is that of the last moment."""
        moved = snapshot(models)
        for moment in moments:
            moved = moved.at(moment)

        fresh = snapshot(models, now=moments[-1])
        assert fresh == moved
        assert states(fresh.models) == states(moved.models)

    def test_only_what_becomes_deprecated_is_another_entry(self):
        """At a deprecation one entry is another object and the audience another one."""
        models = [entry("a"), entry("b", deprecation="2027-01-16T00:00:00Z")]
        before = snapshot(models)
        after = before.at(MIDNIGHT + DAY)

        assert [False, True] == [model.is_deprecated for model in after.models]
        assert before.get("a") is after.get("a")
        assert before.get("b") is not after.get("b")
        assert (
            before.audiences.of_viewer(ANONYMOUS).state
            != after.audiences.of_viewer(ANONYMOUS).state
        )
        assert not before.get("b").is_deprecated

    def test_a_snapshot_is_valid_between_boundaries(self):
        """A snapshot is valid from one boundary to before the next one."""
        models = [
            entry("a", available_from=MIDNIGHT - 10),
            entry("b", available_from=MIDNIGHT + 10, shutdown_date="2027-01-16"),
            entry("c"),
        ]
        current = snapshot(models)

        assert [MIDNIGHT - 10, MIDNIGHT + 10, MIDNIGHT + DAY] == [
            moment for moment, _ in current.boundaries
        ]
        assert (MIDNIGHT - 10, MIDNIGHT + 10) == (current.since, current.until)
        assert [False, True, True, False] == [
            current.at(MIDNIGHT + s) is current for s in (-11, -10, 9, 10)
        ]

    def test_without_dates_a_snapshot_is_always_valid(self):
        """A catalogue without dates has no boundaries."""
        current = snapshot(entries("a"))

        assert current is current.at(-(2**60)) is current.at(2**60)
        assert ["a"] == ids(listed(current.audiences.of_viewer(ANONYMOUS)))

    def test_before_the_first_boundary_nothing_dated_is_listed(self):
        """Before all boundaries, future entries are hidden and entries with an end are listed."""
        models = [
            entry("new", available_from=MIDNIGHT + 1),
            entry("old", shutdown_date="2027-01-16"),
        ]

        assert ["old"] == ids(listed(snapshot(models).audiences.of_viewer(ANONYMOUS)))

    def test_a_boundary_changes_no_revision_key_or_entry(self):
        """A date writes nothing: revision, keys and the administrator's list stay."""
        models = [entry("new", available_from=MIDNIGHT + 1)]
        before = snapshot(models, [key("k")], revision=7)
        after = before.at(MIDNIGHT + 1)

        assert (7, ["new"], before.keys_by_digest) == (
            after.revision,
            ids(after.models),
            after.keys_by_digest,
        )
        assert ([], ["new"]) == (
            ids(listed(before.audiences.of_viewer(ANONYMOUS))),
            ids(listed(after.audiences.of_viewer(ANONYMOUS))),
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
        """A viewer who may see both learns what replaces a retired entry."""
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

    @pytest.mark.parametrize(
        ("second", "third", "named"),
        [
            ({"shutdown_date": "2027-01-15"}, {}, "alias"),
            ({}, {}, "alias"),
            ({}, {"available_from": MIDNIGHT + 1}, "b"),
            ({}, {"organization": "globex"}, "b"),
            ({"shutdown_date": "2027-01-15"}, {"shutdown_date": "2027-01-15"}, None),
            ({"shutdown_date": "2027-01-15", "organization": "globex"}, {}, None),
            ({"available_from": MIDNIGHT + 1}, {}, None),
            ({}, {"deprecation_replacement_model": "a"}, "alias"),
            ({"shutdown_date": "2027-01-15"}, {"deprecation_replacement_model": "b"}, "alias"),
        ],
    )
    def test_the_end_of_a_chain_is_named(self, second, third, named):
        """It is the last one that the viewer sees, on a way of entries that they see or saw."""
        models = [
            entry("a", shutdown_date="2027-01-15", deprecation_replacement_model="b"),
            entry("b", **{"deprecation_replacement_model": "alias", **second}),
            entry("c", aliases=["alias"], **third),
        ]

        assert named == self.refused(models, "a", ACME)[2]

    def test_a_chain_is_followed_for_a_hundred_steps(self):
        """A longer one, which grew at its end, costs a reader no more."""
        models = [
            entry(
                f"{number:03}",
                deprecation_replacement_model=f"{number + 1:03}",
                **({} if number in (MAX_CHAIN, 120) else {"shutdown_date": "2027-01-15"}),
            )
            for number in range(121)
        ]

        assert f"{MAX_CHAIN:03}" == self.refused(models, "000", ANONYMOUS)[2]

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
        """What is listed is found, as are the aliases of what is listed, and nothing else."""
        current = snapshot(models, now=now)
        found = []
        for name in sorted({unknown, *(name for model in models for name in model.ids)}):
            try:
                model = current.find(name, viewer)
            except ModelNotFound:
                continue
            if model.id == name:
                found.append(model.id)
            else:
                assert model is current.get(name) is current.find(model.id, viewer)
                assert name in model.aliases
                assert not model.list_aliases

        assert ids(listed(current.audiences.of_viewer(viewer))) == found


class TestAliases:
    def test_an_alias_is_its_entry_under_another_id(self):
        """A listed alias has the facts of the entry, which is its root; another one is no item."""
        shown = entry("a", name="A", revision=7, aliases=["x", "y"], list_aliases=True, root="b")
        taken = snapshot([shown, entry("b", aliases=["z"], organization="acme")])
        item = replace(shown, id="x", root="a", aliases=None, list_aliases=None)

        assert ["a", "x", "y"] == ids(taken.audiences.live.get(i) for i in "axy")
        assert ["a", "b"] == ids(taken.models)
        assert item == taken.find("x", ANONYMOUS)
        assert states([item]) == states([taken.find("x", ANONYMOUS)])
        assert taken.get("b") is taken.find("z", ACME)
        assert taken.get("a") is taken.get("x") is taken.audiences.live.get("a")

    def test_an_entry_wins_over_an_alias(self):
        """Where two have one name, which only an older program allows, one of them counts."""
        taken = snapshot(
            [
                entry("a", permission=()),
                entry("b", aliases=["a", "x"], list_aliases=True),
                entry("c", aliases=["x"], list_aliases=True),
            ]
        )

        assert ["b", "c", "x"] == ids(listed(taken.audiences.of_viewer(ANONYMOUS)))
        assert "b" == taken.find("x", ANONYMOUS).root
        without = taken.apply(Changes(2, {"a": None, "b": None}, {}), MIDNIGHT)
        assert "c" == without.find("x", ANONYMOUS).root
        assert None is without.get("a")

    @pytest.mark.parametrize("order", ["ab", "ba"])
    def test_an_alias_moves_in_one_batch(self, order):
        """One that leaves an entry for another is listed once, and is the other's."""
        taken = snapshot([entry("a", aliases=["x"], list_aliases=True), entry("b")])
        moved = {"a": entry("a"), "b": entry("b", aliases=["x"], list_aliases=True)}
        taken = taken.apply(Changes(2, {i: moved[i] for i in order}, {}), MIDNIGHT)

        assert ["a", "b", "x"] == ids(listed(taken.audiences.of_viewer(ANONYMOUS)))
        assert "b" == taken.find("x", ANONYMOUS).root
        assert {"x": {"b"}} == taken.by_alias

    def test_an_alias_lives_on_until_its_entry_changes(self):
        """No other write makes another item of it, and no index of aliases."""
        old = snapshot([entry("a", aliases=["x"], list_aliases=True), *entries("b")])
        other = old.apply(Changes(2, {"b": entry("b", name="B")}, {}), MIDNIGHT)
        own = other.apply(
            Changes(3, {"a": entry("a", name="A", aliases=["x"], list_aliases=True)}, {}), MIDNIGHT
        )

        assert old.audiences.live.get("x") is other.audiences.live.get("x")
        assert old.by_alias is other.by_alias is own.by_alias
        assert ("A", "A") == (own.get("x").name, own.audiences.live.get("x").name)

    def test_an_alias_is_small(self):
        """A listed alias takes less than 1 KiB: the values of its entry are shared."""
        models = [entry(f"m{n}", aliases=[f"x{n}"], list_aliases=True) for n in range(1000)]
        gc.collect()
        tracemalloc.start()
        taken = snapshot(models)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert 2000 == len(taken.audiences.live)
        assert used < 1000 * 1024

    def test_an_alias_has_the_dates_of_its_entry(self):
        """It appears, is deprecated and disappears with it."""
        dated = entry(
            "a",
            aliases=["x"],
            list_aliases=True,
            available_from=MIDNIGHT,
            deprecation="2027-01-15T12:00:00Z",
            shutdown_date="2027-01-16",
        )
        taken = snapshot([dated], now=MIDNIGHT - 1)
        seen = []
        for now in (MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + DAY // 2, MIDNIGHT + DAY, MIDNIGHT):
            taken = taken.at(now)
            seen.append([(m.id, m.is_deprecated) for m in taken.audiences.live])

        live, deprecated = ([("a", is_late), ("x", is_late)] for is_late in (False, True))
        assert [[], live, deprecated, [], live] == seen

    @pytest.mark.parametrize("is_listed", [True, False])
    def test_a_retired_alias_names_the_replacement(self, is_listed):
        """The error names what the field names, be it an alias, of an entry asked by alias."""
        retired = entry(
            "old",
            shutdown_date="2027-01-15",
            deprecation_replacement_model="y",
            aliases=["x"],
            list_aliases=is_listed,
        )
        taken = snapshot([retired, entry("new", aliases=["y"], organization="acme")])
        errors = []
        for viewer in (ACME, ANONYMOUS):
            with pytest.raises(ModelNotFound) as caught:
                taken.find("x", viewer)
            errors.append((caught.value.model_id, caught.value.replacement))

        assert [("x", "y"), ("x", None)] == errors


class TestReferences:
    def test_a_name_that_is_an_alias_is_followed(self):
        """It is hidden while it is that of an entry with another rule, whichever this is."""
        rule = entry("x", organization="acme").rule
        mine = {"organization": "acme", "aliases": ["x"]}
        taken = snapshot([entry("a", parent="x", aliases=["y"], list_aliases=True)])
        seen = []
        for revision, changed in enumerate(
            (
                {"b": entry("b", **mine)},
                {"b": entry("b", organization="acme")},
                {"c": entry("c", aliases=["x"])},
                {"c": entry("c"), "b": entry("b", **mine)},
                {"x": entry("x")},
                {"x": None, "b": entry("b", **mine, available_from=MIDNIGHT + 1)},
                {"b": None},
            ),
            2,
        ):
            taken = taken.apply(Changes(revision, changed, {}), MIDNIGHT)
            listed = taken.audiences.live
            assert listed.get("a").references == listed.get("y").references
            seen.append(dict(taken.get("a").references))

        hidden = {"parent": rule}
        assert [hidden, {}, {}, hidden, {}, {"parent": frozenset()}, {}] == seen

    def test_a_name_is_followed_through_every_change(self):
        """What names an entry knows its rule as it appears, is hidden, retires and goes."""
        rule = entry("x", organization="acme").rule
        taken = snapshot(entries("a"))
        seen = []
        for revision, changed in enumerate(
            (
                {"a": entry("a", parent="b")},
                {"b": entry("b")},
                {"b": entry("b", organization="acme")},
                {"b": entry("b", available_from=MIDNIGHT + 1)},
                {"b": None},
                {"b": entry("b", organization="acme"), "a": entry("a", root="b")},
                {"a": entry("a", organization="acme", root="b")},
                {"a": entry("a", organization="globex", root="b")},
                {"a": entry("a")},
            ),
            2,
        ):
            taken = taken.apply(Changes(revision, changed, {}), MIDNIGHT)
            seen.append(dict(taken.get("a").references))

        assert [
            {},
            {},
            {"parent": rule},
            {"parent": frozenset()},
            {},
            {"root": rule},
            {},
            {"root": rule},
            {},
        ] == seen
        assert {} == taken.referrers

    def test_a_date_hides_a_name(self):
        """A name is hidden until its entry appears, and again once it is retired."""
        dated = entry("b", available_from=MIDNIGHT, shutdown_date="2027-01-16")
        taken = snapshot([entry("a", parent="b"), dated], now=MIDNIGHT - 1)
        seen = []
        for now in (MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 1):
            taken = taken.at(now)
            seen.append(dict(taken.get("a").references))

        assert [{"parent": frozenset()}, {}, {"parent": frozenset()}, {}] == seen

    def test_a_write_that_hides_nothing_resolves_no_other_entry(self, monkeypatch):
        """However many entries name one, to change its description costs nothing for them."""
        named = [entry(f"e-{number}", parent="x") for number in range(1000)]
        taken = snapshot([*named, entry("x")])
        resolved = []
        monkeypatch.setattr(
            "app.catalog.snapshot.with_references",
            lambda model, *rest: resolved.append(model.id) or with_references(model, *rest),
        )
        taken = taken.apply(Changes(2, {"x": entry("x", description="new")}, {}), MIDNIGHT)

        assert ["x"] == resolved
        hidden = taken.apply(Changes(3, {"x": entry("x", organization="acme")}, {}), MIDNIGHT)
        assert 1002 == len(resolved)
        assert all(hidden.get(model.id).references for model in named)
