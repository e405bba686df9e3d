"""What every dialect keeps, tested alike for each: a subclass says how its clients ask and read.

The golden test of a dialect is its replies; `Promises` is the rest, and `Walks` the part of it
that is about paging.
"""

import gzip
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge, ServiceUnavailable, TooManyRequests

from app.catalog.model import Model
from app.catalog.ports import Changes, StoredCatalog
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS
from app.replies import ReplyCache
from tests.dialects.derived import address

NOW = 1_800_000_000  # 2027-01-15T08:00:00Z

model_ids = st.text("-./:09AZ~", min_size=1, max_size=3).filter(
    lambda text: {"", ".", ".."}.isdisjoint(text.split("/"))
)
#: What happens between two pages: some entries come, and some go.
changes = st.dictionaries(model_ids, st.booleans(), max_size=4)


def model(model_id):
    return Model.compose({"id": model_id}, now=NOW)


class Walks:
    """Page after page, a walk meets each entry that was there all along, once."""

    #: A dialect, as the factory makes it.
    dialect = None
    #: Whether the last page comes first.
    backwards = False

    def ids(self, listing):
        """Return the ids in a list, in its order."""
        raise NotImplementedError

    def first(self, size):
        """Return the parameters of a first page of so many entries."""
        raise NotImplementedError

    def following(self, query, listing):
        """Return the parameters of the page after the one that `query` got, None at the end."""
        raise NotImplementedError

    # All subclasses run it: an example that failed for one dialect is tried with the others.
    @settings(suppress_health_check=[HealthCheck.differing_executors])
    @given(st.sets(model_ids, max_size=12), st.integers(1, 5), st.lists(changes, max_size=6))
    def test_a_walk_neither_skips_nor_repeats(self, ids, size, happening):
        """While entries come and go, the cursor's too, nobody is left out or met twice."""
        snapshot = Snapshot.of(StoredCatalog(1, [*map(model, ids)], []), NOW)
        replies = ReplyCache(2**20)
        throughout, ever, walked = set(ids), set(ids), []
        query = self.first(size)
        while query is not None:
            window = self.dialect.window(query)
            reply = replies.listing(snapshot, self.dialect, ANONYMOUS, window, gzipped=False)
            listing = json.loads(reply.content)
            walked.append(self.ids(listing))
            assert len(walked) <= len(ever) + 1
            assert walked[-1] == sorted(walked[-1])
            query = self.following(query, listing)
            if happening:
                change = happening.pop()
                entries = {i: model(i) if is_there else None for i, is_there in change.items()}
                snapshot = snapshot.apply(Changes(snapshot.revision + 1, entries, {}), NOW)
                throughout -= {model_id for model_id, is_there in change.items() if not is_there}
                ever |= change.keys()
        met = [i for page in (walked[::-1] if self.backwards else walked) for i in page]

        assert sorted({*met}) == met
        assert throughout <= {*met} <= ever

    def test_an_undisturbed_walk_has_full_pages(self):
        """Where nobody writes, pages are full, and the last one is not empty."""
        snapshot = Snapshot.of(StoredCatalog(1, [*map(model, "abcdef")], []), NOW)
        replies = ReplyCache(2**20)
        lengths = []
        query = self.first(2)
        while query is not None:
            window = self.dialect.window(query)
            reply = replies.listing(snapshot, self.dialect, ANONYMOUS, window, gzipped=False)
            lengths.append(len(self.ids(json.loads(reply.content))))
            query = self.following(query, json.loads(reply.content))

        assert lengths in ([2, 2, 2], [6])


class Promises(Walks):
    """All that a caller may rely on, whatever the dialect."""

    #: The headers that select the dialect.
    headers = {}  # noqa: RUF012 - a subclass says it
    #: Where it asks for the list.
    path = "/v1/models"
    #: An unknown URL that is the dialect's.
    nowhere = "/v1/nowhere"

    def message(self, error):
        """Return the sentence in an error, of which everything else must be there too."""
        raise NotImplementedError

    def one(self, ask, model_id):
        """Ask for one model."""
        return ask(f"{self.path}/{quote(model_id)}")

    def agree(self, item, entry):
        """Tell whether a piece of the list and a retrieval say the same."""
        return item == entry

    def items(self, listing):
        """Return what a list has of each model."""
        [items] = [value for value in listing.values() if isinstance(value, list)]
        return items

    @pytest.fixture
    def ask(self, client, admin):
        """Return what asks as a client of the dialect does."""

        def ask(path, method="GET", headers=(), **given):
            sent = {**self.headers, **dict(headers)}
            return client.open(path, method=method, headers=sent, **given)

        return ask

    def test_the_list_is_all_that_is_visible(self, ask, admin):
        """Entries are in code point order; what is hidden is in no list and no retrieval."""
        for model_id in ("b", "a/b:c", "a (1)", "B"):
            admin.add(model_id)
        admin.add("hidden", permission=[])
        admin.add("ours", permission=[{"organization": "acme"}])
        admin.add("soon", available_from=2**32 - 1)
        admin.add("gone", shutdown_date="2020-01-01")
        listed = ["B", "a (1)", "a/b:c", "b"]

        assert listed == self.ids(ask(self.path).json)
        assert [200] * 4 == [self.one(ask, model_id).status_code for model_id in listed]
        unknown = self.one(ask, "absent")
        for model_id in ("hidden", "ours", "soon", "gone"):
            answer = self.one(ask, model_id)
            assert 404 == answer.status_code
            if "request_id" not in answer.json:
                assert unknown.text.replace("absent", model_id) == answer.text
        key = {"Authorization": f"Bearer {admin.new_key(organization='acme')}"}
        keyed = ask(self.path, headers=key)
        assert sorted([*listed, "ours"]) == self.ids(keyed.json)
        assert "private, no-cache" == keyed.headers["Cache-Control"]

    def test_list_and_retrieval_say_the_same(self, ask, admin):
        """What a list has of a model, the model's own answer has too."""
        admin.add("x", name="X", context_length=8192, deprecation="2020-01-01T00:00:00Z")
        [item] = self.items(ask(self.path).json)

        assert self.agree(item, self.one(ask, "x").json)

    def test_an_empty_list_is_a_list(self, ask):
        """Without entries there is a list, an empty one."""
        assert [] == self.items(ask(self.path).json)

    def test_unknown_parameters_are_ignored(self, ask, admin):
        """A parameter that means nothing here changes no byte."""
        admin.add("x")

        assert ask(self.path).data == ask(f"{self.path}?nothing=1&like=that").data

    def test_equal_calls_get_equal_bytes(self, ask, admin):
        """Two calls get the same bytes under the same strong tag, and a change gets others."""
        admin.add("x")
        first, second = ask(self.path), ask(self.path)
        admin.add("y")
        third = ask(self.path)

        assert (first.data, first.headers["ETag"]) == (second.data, second.headers["ETag"])
        assert first.headers["ETag"].startswith('"')
        assert {first.data, first.headers["ETag"]}.isdisjoint({third.data, third.headers["ETag"]})

    def test_a_known_tag_is_a_304(self, ask, admin):
        """If-None-Match with the tag gets a 304 without a body."""
        admin.add("x")
        tag = ask(self.path).headers["ETag"]
        answer = ask(self.path, headers={"If-None-Match": tag})

        assert (304, b"", tag) == (answer.status_code, answer.data, answer.headers["ETag"])

    def test_head_is_get_without_the_body(self, ask, admin):
        """HEAD answers GET's status and headers."""
        admin.add("x")
        get, head = ask(self.path), ask(self.path, "HEAD")

        assert (get.status_code, b"") == (head.status_code, head.data)
        for name in ("Content-Length", "Content-Type", "ETag", "Vary", "Cache-Control"):
            assert get.headers[name] == head.headers[name]

    def test_gzip_is_sent_to_those_who_take_it(self, ask, admin):
        """A long list goes gzip-encoded under a tag of its own."""
        for number in range(40):
            admin.add(f"model-{number}")
        plain, packed = ask(self.path), ask(self.path, headers={"Accept-Encoding": "gzip"})

        assert "gzip" == packed.headers["Content-Encoding"]
        assert plain.data == gzip.decompress(packed.data)
        assert plain.headers["ETag"] != packed.headers["ETag"]

    def test_no_tag_is_shared_with_another_dialect(self, ask, app, client, admin):
        """The same list in another dialect has another tag, and Vary names what selects."""
        admin.add("x")
        answer = ask(self.path)
        others = [d for d in app.extensions["roster"].dialects if d.name != self.dialect.name]
        tags = [
            client.get(path, headers=headers).headers["ETag"]
            for path, headers in map(address, others)
        ]

        assert len(others) >= 3
        assert answer.headers["ETag"] not in tags
        vary = {name.lower() for name in answer.headers["Vary"].split(", ")}
        assert {name.lower() for name in self.dialect.headers} <= vary

    def test_errors_are_in_the_callers_shape(self, ask, admin):
        """Each error is worded in the dialect, also where no view was reached."""
        wrong = {"Authorization": "Bearer wrong"}
        for status, answer in (
            (401, ask(self.path, headers=wrong)),
            (401, ask(self.nowhere, headers=wrong)),
            (404, ask(self.nowhere)),
            (404, self.one(ask, "absent")),
            (405, ask(self.path, "DELETE")),
        ):
            assert status == answer.status_code
            assert isinstance(self.message(answer.json), str)
            assert "application/json" == answer.headers["Content-Type"]
            assert "private, no-cache" == answer.headers["Cache-Control"]
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert "absent" in self.message(self.one(ask, "absent").json)
        assert {"GET", "HEAD", "OPTIONS"} == {
            *ask(self.path, "DELETE").headers["Allow"].split(", ")
        }

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (RequestEntityTooLarge("Too long."), 413),
            (TooManyRequests("Slow down.", retry_after=7), 429),
            (RuntimeError("inside"), 500),
            (ServiceUnavailable("Not now.", retry_after=7), 503),
        ],
    )
    def test_what_fails_inside_is_in_the_callers_shape(self, ask, app, error, status):
        """What an extension refuses and what nobody thought of is worded in the dialect too."""

        def view():
            raise error

        app.view_functions["models.list_models"] = view
        answer = ask(self.path)

        message = "Internal error." if status == 500 else error.description
        assert (status, message) == (answer.status_code, self.message(answer.json))
        assert answer.headers.get("Retry-After") == ("7" if status in {429, 503} else None)

    def test_a_retired_model_names_its_replacement(self, ask, admin):
        """The error for a retired model names its replacement."""
        admin.add("new")
        admin.add("old", shutdown_date="2020-01-01", deprecation_replacement_model="new")

        assert self.message(self.one(ask, "old").json).endswith(
            ": it was retired, use 'new' instead"
        )

    def test_pages_are_those_of_the_domain(self, ask, admin):
        """Over HTTP a walk goes as it does without."""
        for letter in "abcde":
            admin.add(letter)
        walked = []
        query = self.first(2)
        while query is not None:
            listing = ask(f"{self.path}?{urlencode(query)}").json
            walked.append(self.ids(listing))
            query = self.following(query, listing)

        assert walked in ([["a", "b"], ["c", "d"], ["e"]], [["a", "b", "c", "d", "e"]])
