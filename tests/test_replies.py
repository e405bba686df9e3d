"""The cache of replies: what is made how often, what is cached, and how much of it."""

import gc
import gzip
import json
import random
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest

from app import dialects_of
from app.catalog.audiences import Audiences
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.paging import EVERYTHING, Window, cut
from app.catalog.ports import Changes, StoredCatalog
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS, Viewer
from app.compression import BURST, SHARE
from app.dialects.anthropic import Anthropic
from app.dialects.gemini import Gemini
from app.dialects.openai import OpenAI
from app.replies import BATCH, FRAGMENT_OVERHEAD, GZIP_PAUSE, OVERHEAD, ReplyCache
from app.settings import Settings

ACME = Viewer("acme")
NOW = 1_800_000_000


def model(model_id, **fields):
    return Model.compose({"id": model_id, **fields}, now=NOW)


def snapshot(*models, keys=()):
    return Snapshot.of(StoredCatalog(1, models, keys), NOW)


class Counting(OpenAI):
    """OpenAI's dialect, counting what it is asked for."""

    def __init__(self):
        super().__init__(reference_only=False)
        self.entries = []
        self.lists = 0

    def entry(self, model):
        self.entries.append(model.id)
        return super().entry(model)

    def listing(self, entries, page, window):
        self.lists += 1
        return super().listing(entries, page, window)


@pytest.fixture
def dialect():
    return Counting()


@pytest.fixture
def replies(clock):
    return ReplyCache(1024 * 1024, clock)


def counted(replies):
    """Return the bytes of all that the cache has."""
    return sum(slot.size for slot in (*replies._slots.values(), *replies._fragments.values()))


@pytest.fixture
def ask(replies, dialect):
    """Return what gets the list of a snapshot."""

    def listing(taken, viewer=ANONYMOUS, window=EVERYTHING, *, gzipped=False):
        return replies.listing(taken, dialect, viewer, window, gzipped=gzipped)

    return listing


def test_a_list_is_made_once(ask, dialect):
    """The same list, asked for again, is the same reply."""
    taken = snapshot(model("a"), model("b"))

    assert ask(taken) is ask(taken)
    assert (["a", "b"], 1) == (dialect.entries, dialect.lists)


def test_a_change_encodes_what_changed_and_no_more(ask, dialect):
    """After a change the list is joined anew, of one new fragment and the old ones."""
    taken = snapshot(*map(model, "abc"))
    ask(taken)
    changed = taken.apply(Changes(2, {"b": model("b", name="B"), "c": None}, {}), NOW)
    reply = ask(changed)

    assert ["a", "b", "c", "b"] == dialect.entries
    assert b'"name":"B"' in reply.content
    assert b'"id":"c"' not in reply.content


def test_an_alias_is_encoded_with_its_entry_and_no_other(ask, dialect):
    """A listed alias is encoded once; only a change of its entry encodes it anew."""
    aliased = {"aliases": ["x", "y"], "list_aliases": True}
    taken = snapshot(model("a", **aliased), model("b"))
    ask(taken)
    for revision, changed in enumerate((model("b"), model("a", name="A", **aliased)), 2):
        dialect.entries.clear()
        taken = taken.apply(Changes(revision, {changed.id: changed}, {}), NOW)
        listed = json.loads(ask(taken).content)

        assert [*"abxy"] == [item["id"] for item in listed["data"]]
        assert {"b": ["b"], "a": ["a", "x", "y"]}[changed.id] == dialect.entries


def test_an_alias_that_is_not_listed_shares_the_reply(replies, dialect):
    """However many names an entry has, the cache has one reply for it."""
    taken = snapshot(model("a", aliases=[f"x{number}" for number in range(16)]))
    got = {
        replies.entry(dialect, taken.find(name, ANONYMOUS), ANONYMOUS, gzipped=False)
        for name in taken.get("a").ids
    }

    assert (1, 16) == (len(got), replies.hits)


def test_aliases_stay_while_there_are_many(clock, dialect):
    """However many aliases an entry has, their bytes stay as long as those of entries do."""
    replies = ReplyCache(64 * 1024 * 1024, clock)
    aliases = [[f"x{number}-{i}" for i in range(16)] for number in range(80)]
    taken = snapshot(
        *(model(f"m{n}", aliases=some, list_aliases=True) for n, some in enumerate(aliases))
    )
    changed = model("m0", aliases=aliases[0][:1], list_aliases=True)
    for state in (taken, taken.apply(Changes(2, {"m0": changed}, {}), NOW)):
        replies.listing(state, dialect, ANONYMOUS, EVERYTHING, gzipped=False)

    assert 80 * 17 + 2 == len(dialect.entries)


def test_a_change_that_is_not_seen_remakes_nothing(ask, dialect):
    """A new key, and an entry that is hidden, leave the reply of everyone else as it is."""
    taken = snapshot(model("a"))
    reply = ask(taken)
    key = ApiKey(kid="k", digest="d", name="n", created=NOW)
    changed = taken.apply(Changes(2, {}, {"k": key}), NOW)
    changed = changed.apply(Changes(3, {"b": model("b", permission=[])}, {}), NOW)

    assert reply is ask(changed)
    assert 1 == dialect.lists


def test_audiences_that_see_the_same_share_a_reply(ask):
    """Two organizations without entries of their own get one reply."""
    taken = snapshot(model("a"), model("ours", permission=[{"organization": "acme"}]))

    assert ask(taken, Viewer("x")) is ask(taken, Viewer("y"))
    assert ask(taken, ACME) is not ask(taken)


def test_what_is_shown_alike_is_encoded_once(ask, dialect):
    """Viewers that are shown the same of an entry share its bytes, whatever else they see."""
    mixed = model("a", permission=[{}, {"organization": "acme", "group": "red"}])
    own = [model(f"own-{n}", permission=[{"organization": f"org-{n}"}]) for n in range(9)]
    taken = snapshot(mixed, *own)
    for number in range(9):
        ask(taken, Viewer(f"org-{number}"))
    ask(taken, Viewer("acme", frozenset({"red"})))

    assert 2 == dialect.entries.count("a")


def test_a_dialect_without_permissions_has_one_reply(replies):
    """Where a reply shows no permissions, viewers that see the same entries share it."""
    taken = snapshot(model("a", permission=[{}, {"organization": "acme"}]))
    for dialect in dialects_of(Settings()):
        window = dialect.window({})
        lists, shown = (
            [make(viewer) for viewer in (ACME, ANONYMOUS)]
            for make in (
                partial(replies.listing, taken, dialect, window=window, gzipped=False),
                partial(replies.entry, dialect, taken.models[0], gzipped=False),
            )
        )

        has_one = dialect.name != "openai"
        assert has_one is (lists[0] is lists[1])
        assert has_one is (shown[0] is shown[1])


def test_audiences_that_part_do_not_push_each_other_out(ask, dialect):
    """Of two that shared a reply each has its own, once they see different entries."""
    taken = snapshot(model("a"))
    assert ask(taken) is ask(taken, ACME)
    blocking = [{}, {"organization": "acme", "is_blocking": True}]
    changed = taken.apply(Changes(2, {"b": model("b", permission=blocking)}, {}), NOW)
    public, ours = ask(changed), ask(changed, ACME)

    assert public is not ours
    assert [public, ours] * 3 == [ask(changed, viewer) for viewer in (ANONYMOUS, ACME) * 3]


def test_an_entry_that_only_compares_equal_is_another(ask, dialect):
    """1 and 1.0 are equal, and not the same bytes: the list says what the retrieval says."""
    same = {"permission": [{"id": "p"}]}  # one of its own would make them differ
    taken = snapshot(model("a", create_time=1, **same))
    ask(taken)
    changed = taken.apply(Changes(2, {"a": model("a", create_time=1.0, **same)}, {}), NOW)

    assert b'"create_time":1.0' in ask(changed).content


def test_pages_are_cached_and_filtered_lists_are_not(ask):
    """A page is cached like a list; the results of a search do not fill the cache."""
    taken = snapshot(*map(model, "abc"))

    assert ask(taken, window=Window(limit=1)) is ask(taken, window=Window(limit=1))
    assert ask(taken, window=Window(q="a")) is not ask(taken, window=Window(q="a"))


def test_a_miss_is_made_by_one_thread(dialect, ask, request):
    """Threads that miss at the same time wait for the one that makes it."""
    models = [model(f"m{number}") for number in range(200)]
    together = threading.Barrier(8)

    def miss(taken):
        together.wait()
        return ask(taken)

    patience = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds; threads meet in the middle of everything
    request.addfinalizer(lambda: sys.setswitchinterval(patience))
    with ThreadPoolExecutor(8) as pool:
        for round_number in range(1, 51):
            made = set(map(id, pool.map(miss, [snapshot(*models)] * 8)))

            assert (1, round_number, 200) == (len(made), dialect.lists, len(dialect.entries))


def test_a_dialect_that_takes_long_holds_up_no_other(replies, ask):
    """While one dialect makes its first list, another one makes its own."""
    begun, made = threading.Event(), threading.Event()
    waited = []

    class Slow(Counting):
        name = "slow"

        def item(self, model):
            begun.set()
            waited.append(made.wait(10))
            return super().item(model)

    taken = snapshot(model("a"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(replies.listing, taken, Slow(), ANONYMOUS, EVERYTHING, gzipped=False)
        begun.wait(10)
        ask(taken)
        made.set()

    assert [True] == waited


def test_a_whole_list_holds_up_no_page_of_its_dialect(replies):
    """While it is made, a page is made too; an entry of both is encoded once."""
    begun, made = threading.Event(), threading.Event()
    waited = []

    class Slow(Counting):
        def listing(self, items, page, window):
            if window == EVERYTHING:
                begun.set()
                waited.append(made.wait(10))
            return super().listing(items, page, window)

    taken, dialect = snapshot(model("a"), model("b")), Slow()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(replies.listing, taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
        begun.wait(10)
        replies.listing(taken, dialect, ANONYMOUS, Window(limit=1), gzipped=False)
        made.set()

    assert [True] == waited
    assert ["a", "b"] == dialect.entries


def test_a_list_pauses_after_so_many_new_entries(replies, monkeypatch):
    """Other threads get the interpreter in a first list; after one change nobody has to wait."""
    pauses = []
    monkeypatch.setattr("app.replies.time", SimpleNamespace(sleep=pauses.append))
    entries = [model(f"m{number:03}") for number in range(3 * BATCH)]

    def made(taken):
        pauses.clear()
        replies.listing(taken, Counting(), ANONYMOUS, EVERYTHING, gzipped=False)
        return len(pauses)

    assert 2 == made(snapshot(*entries))
    entries[0] = model("m000", owned_by="other")
    assert 0 == made(snapshot(*entries))


def test_the_cache_is_bounded_by_bytes(clock, dialect):
    """The least recently used reply is removed first, and the newest one always stays."""
    one = len(dialect.entry(model("a")))
    replies = ReplyCache(3 * (one + OVERHEAD), clock)
    models = {letter: model(letter) for letter in "abcd"}

    def ask(letter):
        return replies.entry(dialect, models[letter], ANONYMOUS, gzipped=False)

    first = {letter: ask(letter) for letter in "abc"}
    assert first["a"] is ask("a")
    ask("d")

    assert first["a"] is ask("a")
    assert first["b"] is not ask("b")
    tiny = ReplyCache(1, clock)
    taken = snapshot(models["a"])
    reply = tiny.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
    assert reply is tiny.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)


@pytest.mark.parametrize("dialect_of", [OpenAI, Anthropic, Gemini])
def test_cursors_without_end_lead_to_one_reply(dialect_of):
    """Made-up cursors that lead to the same page get the same reply, and fill no cache."""
    dialect = dialect_of(reference_only=False) if dialect_of is OpenAI else dialect_of()
    replies = ReplyCache(1024 * 1024)
    taken = snapshot(model("a"), model("b"))
    for cursor in ("a0", "zz"):
        windows = [Window(limit=1, after=f"{cursor}{number}") for number in range(500)]
        got = {
            replies.listing(taken, dialect, ANONYMOUS, window, gzipped=False) for window in windows
        }

        assert 1 == len(got)
    assert replies.size < 3 * (OVERHEAD + FRAGMENT_OVERHEAD + 1000)


def test_pages_that_say_other_things_are_not_one(ask):
    """Pages of the same entries differ by what is before and behind them."""
    taken = snapshot(model("a"), model("b"))
    windows = [
        EVERYTHING,
        Window(limit=2),
        Window(limit=1),
        Window(limit=1, before="b"),
        Window(limit=1, after="a"),
    ]
    replies = {ask(taken, window=window).content for window in windows}

    assert len(windows) == len(replies)
    for window in windows:
        page = cut([taken.models], window)
        listed = json.loads(ask(taken, window=window).content)
        assert [m.id for m in page.models] == [item["id"] for item in listed["data"]]
        assert page.has_more == listed.get("has_more", False)


def test_no_reply_keeps_an_old_state_alive(replies, ask):
    """After each write somebody asks for another page: what is gone stays in no cache."""
    taken = snapshot(*(model(f"m{number:04}") for number in range(2000)))
    for number in range(100):
        fresh = model("m0000", name=str(number))
        taken = taken.apply(Changes(number, {"m0000": fresh}, {}), NOW)
        ask(taken, window=Window(limit=1, after=f"m{number:04}"))
        replies.entry(OpenAI(reference_only=False), fresh, ANONYMOUS, gzipped=False)
    gc.collect()
    alive = [o for o in gc.get_objects() if isinstance(o, Model) and o.id == "m0000"]
    lists = [o for o in gc.get_objects() if isinstance(o, list) and taken.models[-1] in o]
    audiences = taken.audiences
    own = [taken.models, audiences.live, audiences.of_viewer(ANONYMOUS).lists[0]]

    assert [taken.models[0]] == alive
    assert {*map(id, own)} == {*map(id, lists)}


def test_the_limit_holds_for_fragments_too(clock):
    """The encoded entries of all dialects count, and what nobody uses makes room."""
    dialects = list(dialects_of(Settings()))
    taken = snapshot(*(model(f"m{number:04}") for number in range(1000)))
    replies = ReplyCache(1024 * 1024, clock)
    for _ in range(3):
        for dialect in dialects:
            replies.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=True)
            assert replies.size <= 1024 * 1024
            assert replies.size == counted(replies)


def test_fragments_count_for_what_they_take(replies, ask):
    """The bytes that encoded entries are counted for are those that they take."""
    taken = snapshot(*(model(f"m{number:04}") for number in range(1000)))
    gc.collect()
    tracemalloc.start()
    reply = ask(taken)
    measured, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reply.size > 300_000
    assert abs(replies.size - OVERHEAD - measured) < 0.1 * measured


@pytest.mark.slow
def test_excerpts_count_for_what_they_take(clock, dialect):
    """Two hundred viewers that are shown parts of their own fill the cache, and no more."""
    limit = 4 * 1024 * 1024
    replies = ReplyCache(limit, clock)
    taken = snapshot(
        *(
            model(f"m{n}", permission=[{"organization": f"org-{k}"} for k in range(n, n + 20)])
            for n in range(200)
        )
    )
    viewers = [Viewer(f"org-{number}") for number in range(220)]
    for viewer in viewers:
        taken.audiences.of_viewer(viewer)
    gc.collect()
    tracemalloc.start()
    sizes = []
    for viewer in viewers:
        replies.listing(taken, dialect, viewer, EVERYTHING, gzipped=False)
        sizes.append(replies.size)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 0.9 * limit < max(sizes) <= limit
    assert counted(replies) == replies.size
    assert used < 1.2 * limit


@pytest.mark.slow
def test_two_thousand_viewers_cost_their_pages(clock, dialect):
    """Each of 1,000 entries has one organization more: a viewer costs a page, and no list."""
    replies = ReplyCache(64 * 1024 * 1024, clock)
    taken = snapshot(
        *(model(f"m{n:04}", permission=[{}, {"organization": f"org-{n}"}]) for n in range(1000))
    )
    viewers = [Viewer(f"org-{number}") for number in range(2000)]
    for viewer in viewers:
        taken.audiences.of_viewer(viewer)
    gc.collect()
    tracemalloc.start()
    for _ in range(2):
        misses = replies.misses
        for viewer in viewers:
            replies.listing(taken, dialect, viewer, Window(limit=20), gzipped=False)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert misses == replies.misses
    assert used < replies.size < 30 * 1024 * 1024


def test_replies_of_single_entries_push_out_no_fragments(clock, dialect):
    """However many entries are retrieved, a list after that encodes nothing anew."""
    taken = snapshot(*(model(f"m{number:03}") for number in range(400)))
    replies = ReplyCache(1024 * 1024, clock)
    replies.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
    for entry in [*taken.models] * 2:
        replies.entry(dialect, entry, ANONYMOUS, gzipped=False)
        replies.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
    dialect.entries.clear()
    changed = taken.apply(Changes(2, {"m000": model("m000")}, {}), NOW)
    replies.listing(changed, dialect, ANONYMOUS, EVERYTHING, gzipped=False)

    assert ["m000"] == dialect.entries


def of_many_rules(number):
    """Return so many entries of 40 rules, all of which ACME sees."""
    return [
        model(f"m{n:03}", permission=[{"organization": "acme"}, {"organization": f"o{n % 40}"}])
        for n in range(number)
    ]


def test_pages_of_many_rules_are_right(clock, dialect):
    """In both directions, filtered or not; cursors that lead to one page get one reply."""
    taken = snapshot(*of_many_rules(200), model("public"), model("hidden", permission=[]))
    replies = ReplyCache(16 * 1024 * 1024, clock)
    for changed in (taken, taken.apply(Changes(2, {"m007": None}, {}), NOW)):
        seen = [m.id for m in changed.models if m.id != "hidden"]
        for cursor in ("l", "m", "m006", "m006x", "m007", "m1999", "public", "z"):
            after, before = ([i for i in seen if i > cursor], [i for i in seen if i < cursor])
            for window, expected in (
                (Window(limit=3, after=cursor), after[:3]),
                (Window(limit=3, before=cursor), before[-3:]),
                (Window(limit=1000, after=cursor), after),
                (Window(limit=2, after=cursor, q="9"), [i for i in after if "9" in i][:2]),
                (Window(limit=2, before=cursor, q="9"), [i for i in before if "9" in i][-2:]),
            ):
                reply = replies.listing(changed, dialect, ACME, window, gzipped=False)
                listed = json.loads(reply.content)
                assert expected == [item["id"] for item in listed["data"]]
        same = [Window(limit=3, after=f"m006{c}") for c in "abc"]
        made = {replies.listing(changed, dialect, ACME, w, gzipped=False) for w in same}
        assert 1 == len(made)
        whole = replies.listing(changed, dialect, ACME, EVERYTHING, gzipped=False)
        assert seen == [item["id"] for item in json.loads(whole.content)["data"]]
    assert replies.size == counted(replies)


def test_an_audience_of_many_rules_keeps_no_entries(replies, dialect, monkeypatch):
    """The rules are found once while they are the same; removed entries leave the memory."""
    taken = snapshot(*of_many_rules(200))
    page = Window(limit=1, after="m")
    found = []
    find_rules = Audiences.find_rules
    monkeypatch.setattr(
        Audiences, "find_rules", lambda *given: found.append(find_rules(*given)) or found[-1]
    )
    first = replies.listing(taken, dialect, ACME, page, gzipped=False)
    [rules] = found
    assert 40 == len(rules)
    assert replies.size - first.size > 2 * sys.getsizeof(rules)
    for number in range(50):
        fresh = {
            m.id: model(
                m.id,
                name=str(number),
                permission=[{"organization": p.organization} for p in m.permission],
            )
            for m in taken.models
        }
        taken = taken.apply(Changes(number, fresh, {}), NOW)
        replies.listing(taken, dialect, ACME, page, gzipped=False)
    gc.collect()

    alive = [o for o in gc.get_objects() if isinstance(o, Model) and o.id == "m007"]
    assert [taken.get("m007")] == alive
    assert 1 == len(found)


def test_threads_leave_the_count_right(dialect):
    """However lists, entries and gzip meet in a small cache, it has what it counts."""
    taken = [snapshot(*(model(f"m{n:02}", name=name) for n in range(60))) for name in "ab"]
    replies = ReplyCache(200_000)

    def work(seed):
        chance = random.Random(seed)
        for _ in range(400):
            state, gzipped = chance.choice(taken), chance.random() < 0.5
            if chance.random() < 0.5:
                replies.entry(dialect, chance.choice(state.models), ANONYMOUS, gzipped=gzipped)
            window = Window(limit=chance.randrange(1, 60), after=f"m{chance.randrange(60):02}")
            replies.listing(state, dialect, ANONYMOUS, window, gzipped=gzipped)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)

    assert replies.size == counted(replies)
    assert replies.size <= 200_000


def test_fragments_stay_while_there_is_something_else_to_drop(clock, dialect):
    """Where every reply is used, replies go: to join one again costs less than to encode it."""
    taken = snapshot(*(model(f"m{number:03}") for number in range(100)))
    replies = ReplyCache(1024 * 1024, clock)
    for number in range(100):
        for _ in range(2):
            window = Window(limit=99, after=f"m{number:03}")
            replies.listing(taken, dialect, ANONYMOUS, window, gzipped=False)

    assert 99 == len(dialect.entries)


def test_fragments_of_removed_entries_go(clock, dialect):
    """Entries that are long gone do not stay in memory for ever."""
    replies = ReplyCache(64 * 1024 * 1024, clock)
    taken = snapshot()
    for number in range(2500):
        for fields in ({}, {"name": "new"}):
            changed = {f"m{number}": model(f"m{number}", **fields)}
            taken = taken.apply(Changes(number, changed, {}), NOW)
            replies.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
        taken = taken.apply(Changes(number, {f"m{number}": None}, {}), NOW)
    longest = FRAGMENT_OVERHEAD + len(dialect.item(model("m2499", name="new")))
    assert replies.size < 1002 * longest + 2 * OVERHEAD
    many = {f"n{number}": model(f"n{number}") for number in range(1100)}
    for changed in (many, dict.fromkeys([*many][1:])):
        taken = taken.apply(Changes(2500, changed, {}), NOW)
        replies.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
    new = ReplyCache(64 * 1024 * 1024, clock)
    new.listing(taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)

    assert new.size == replies.size
    assert replies.size == counted(replies)


def test_one_model_waits_for_no_list(replies):
    """While a list is made, a retrieval in the same dialect is answered."""
    begun, made = threading.Event(), threading.Event()
    waited = []

    class Slow(Counting):
        def item(self, model):
            begun.set()
            waited.append(made.wait(10))
            return super().item(model)

    dialect, taken = Slow(), snapshot(model("a"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(replies.listing, taken, dialect, ANONYMOUS, EVERYTHING, gzipped=False)
        begun.wait(10)
        reply = replies.entry(dialect, taken.models[0], ANONYMOUS, gzipped=False)
        made.set()

    assert b'"id":"a"' in reply.content
    assert [True] == waited


@pytest.mark.parametrize("windows", [[Window(q="m")], [Window(limit=1), Window(limit=2)]])
def test_one_list_is_made_at_a_time(windows):
    """Whoever asks for many lists at once, filtered ones or pages, leaves room for others."""
    replies = ReplyCache(0)  # it keeps no list
    together = threading.Barrier(4)
    making, most = [], []

    class Watched(Counting):
        def listing(self, items, page, window):
            making.append(1)
            most.append(len(making))
            time.sleep(0)  # whoever may, comes in between
            reply = super().listing(items, page, window)
            making.pop()
            return reply

    dialect, taken = Watched(), snapshot(*(model(f"m{number}") for number in range(50)))
    replies = ReplyCache(1)  # there is room for one list, and for no other

    def many(_):
        together.wait()
        for window in windows * 20:
            replies.listing(taken, dialect, ANONYMOUS, window, gzipped=False)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(many, range(4)))
    finally:
        sys.setswitchinterval(interval)

    assert {1} == {*most}


def long(model_id, **fields):
    return model(model_id, description="x" * 4000, **fields)


def test_filtered_lists_are_encoded_as_well(ask):
    """A reply that is not cached is compressed for its one caller."""
    taken = snapshot(long("a"), model("b"))
    window = Window(owned_by="custom")
    plain, packed = (ask(taken, window=window, gzipped=gzipped) for gzipped in (False, True))

    assert (None, "gzip") == (plain.encoding, packed.encoding)
    assert plain.content == gzip.decompress(packed.content)


def test_gzip_is_made_once_with_its_own_tag(ask):
    """The encoded form says the same, under a tag of its own, and is made for the first asker."""
    taken = snapshot(long("a"))
    plain, packed = ask(taken), ask(taken, gzipped=True)

    assert plain.content == gzip.decompress(packed.content)
    assert ("gzip", None) == (packed.encoding, plain.encoding)
    assert plain.etag != packed.etag
    assert packed is ask(taken, gzipped=True)
    assert plain is ask(taken)


@pytest.mark.parametrize(("length", "encoded"), [(1023, False), (1024, True)])
def test_short_replies_are_not_encoded(replies, clock, length, encoded):
    """Below 1 KiB gzip is not worth it."""

    class Fixed(Counting):
        def entry(self, model):
            return b"x" * length

    reply = replies.entry(Fixed(), model("a"), ANONYMOUS, gzipped=True)

    assert ("gzip" if encoded else None) == reply.encoding


def test_very_long_replies_are_not_encoded(replies):
    """Above 8 MiB the time is better spent sending; up to there it is done at level 1."""

    class Fixed(Counting):
        def __init__(self, length):
            super().__init__()
            self.length = length

        def entry(self, model):
            return b"x" * self.length

    eight = 8 * 1024 * 1024

    assert "gzip" == replies.entry(Fixed(eight), model("a"), ANONYMOUS, gzipped=True).encoding
    assert replies.entry(Fixed(eight + 1), model("a"), ANONYMOUS, gzipped=True).encoding is None


def test_a_storm_of_changes_is_not_compressed_each_time(ask, clock):
    """A list that changes all the time is sent as it is, until it has been left alone."""
    taken = snapshot(long("a"))
    assert "gzip" == ask(taken, gzipped=True).encoding
    for number in range(3):
        clock.now += GZIP_PAUSE / 4
        taken = taken.apply(Changes(number, {"a": long("a", name=str(number))}, {}), NOW)
        assert ask(taken, gzipped=True).encoding is None
    clock.now += GZIP_PAUSE / 4

    assert "gzip" == ask(taken, gzipped=True).encoding


STEP = 0.01


class Slow:
    """A clock on which each step takes a hundredth of a second."""

    now = 0.0

    def __call__(self):
        self.now += STEP
        return self.now


@pytest.mark.parametrize("q", [None, "m"])
def test_compressing_takes_a_small_part_of_the_time(dialect, q):
    """Who asks for new pages all the time gets the rest as they are, filtered ones, too."""
    clock = Slow()
    replies = ReplyCache(64 * 1024 * 1024, clock)
    taken = snapshot(*(long(f"m{number:02}") for number in range(100)))
    limits = iter(range(1, 101))

    def compressed(number):
        windows = [Window(limit=next(limits), q=q) for _ in range(number)]
        return sum(
            replies.listing(taken, dialect, ANONYMOUS, window, gzipped=True).encoding is not None
            for window in windows
        )

    for burst in (BURST, 0):
        began = clock.now
        seconds = compressed(40) * STEP
        assert 0 < seconds <= burst + SHARE * (clock.now - began) + STEP
    clock.now += 100

    assert BURST <= compressed(20) * STEP < 2 * BURST


def test_nobody_waits_for_what_another_compresses(ask, monkeypatch):
    """While one thread compresses, others send what they have as it is."""
    taken = snapshot(long("a"))
    begun, finish = threading.Event(), threading.Event()
    compress = gzip.compress

    def slow(*given, **options):
        begun.set()
        assert finish.wait(10)
        return compress(*given, **options)

    monkeypatch.setattr(gzip, "compress", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, taken, gzipped=True)
        assert begun.wait(10)
        assert ask(taken, gzipped=True) is ask(taken)
        finish.set()

        assert "gzip" == first.result(10).encoding


def test_two_who_ask_at_once_pay_for_gzip_once(ask, replies, monkeypatch):
    """A thread that comes to compress what another has just compressed takes that."""
    taken = snapshot(long("a"))
    compress = replies._compressor.compress
    made, asked = [], []
    gzip_compress = gzip.compress
    monkeypatch.setattr(
        gzip, "compress", lambda *given, **how: made.append(1) or gzip_compress(*given, **how)
    )

    def overtaken(*given, **how):
        monkeypatch.setattr(replies._compressor, "compress", compress)
        asked.append(ask(taken, gzipped=True))
        return compress(*given, **how)

    monkeypatch.setattr(replies._compressor, "compress", overtaken)
    asked.append(ask(taken, gzipped=True))

    assert asked[0] is asked[1]
    assert "gzip" == asked[0].encoding
    assert [1] == made
    assert replies.size == counted(replies)


def test_both_forms_count(clock, dialect):
    """The encoded form takes its part of the cache, and gives it back."""
    replies = ReplyCache(1024 * 1024, clock)
    taken = long("a")
    plain = replies.entry(dialect, taken, ANONYMOUS, gzipped=False)
    packed = replies.entry(dialect, taken, ANONYMOUS, gzipped=True)

    assert len(plain.content) + len(packed.content) + 2 * OVERHEAD == replies.size
    replies.entry(dialect, long("a", name="new"), ANONYMOUS, gzipped=False)
    assert replies.size < 2 * len(plain.content) + OVERHEAD
