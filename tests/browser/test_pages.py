"""A web page on another origin reads the list with official clients, in a real browser."""

from itertools import permutations, product

import pytest

pytestmark = [
    pytest.mark.needs("chromium", "chromium"),
    pytest.mark.needs("npm", "npm"),
    pytest.mark.imports("playwright"),
]

#: What each client tells of the two models of the server, in order.
TOLD = {
    "openai": ["custom: acme/coder", "custom: gpt-x"],
    "anthropic": ["Coder", "X"],
    "gemini": ["models/acme/coder", "models/gpt-x"],
}
#: The exception and the sentence that each client has for a bad key and for an unknown model.
ERRORS = {
    "openai": (
        ("AuthenticationError", "Incorrect API key provided"),
        ("NotFoundError", "The model 'no/such' does not exist"),
    ),
    "anthropic": (
        ("AuthenticationError", "invalid x-api-key"),
        ("NotFoundError", "model: no/such"),
    ),
    "gemini": (
        ("ApiError", '"status":"UNAUTHENTICATED"'),
        ("ApiError", "models/no/such is not found for API version v1beta"),
    ),
}
CLIENTS = tuple(TOLD)
every_client = pytest.mark.parametrize("client", CLIENTS)


def told(answer):
    assert "models" in answer, answer
    return answer["models"]


@every_client
def test_a_page_lists_and_retrieves(client, page, new_key, asked):
    """The client's preflight is answered, and list and retrieval tell the same."""
    key = new_key()
    listed = page.ask(client, key)

    assert TOLD[client] == told(listed)
    assert [("OPTIONS", 204), ("GET", 200)] == [request[1:] for request in asked()]
    assert client == asked()[-1][0]
    for model_id, shown in zip(("acme/coder", "gpt-x"), TOLD[client], strict=True):
        assert {"model": shown} == page.ask(client, key, model_id)


@every_client
def test_a_page_reads_the_request_id(client, page, new_key, catalogue):
    """The id that the client hands to its page is that of the request in our log."""
    for _ in range(2):  # the second answer is a 304, with an id of its own
        told_id = page.ask(client, new_key())["request_id"]

        assert told_id.startswith("req_")
        assert told_id == catalogue.access_lines()[-1]["request_id"]


@every_client
def test_a_page_reads_errors(client, page, new_key):
    """A 401 and a 404 arrive as the client's own exceptions, with our sentence."""
    answers = page.ask(client, "ro_wrong"), page.ask(client, new_key(), "no/such")
    for status, (kind, sentence), answer in zip((401, 404), ERRORS[client], answers, strict=True):
        assert (kind, status) == (answer["error"], answer["status"])
        assert sentence in answer["message"]
        if client != "gemini":  # Google's client hands the headers of an error to nobody
            assert answer["request_id"].startswith("req_")


@every_client
def test_a_page_reads_what_is_wrong_with_its_url(client, page, new_key):
    """A client that was given a wrong base URL tells so, rather than of a lost connection."""
    page.url += "/wrong"
    answer = page.ask(client, new_key())

    assert 404 == answer["status"]
    assert "Unknown URL: GET /wrong/v1/models" in answer["message"]


@every_client
def test_the_browser_keeps_the_list_and_asks_again(client, page, new_key, asked):
    """The second list comes from the browser's cache, once a 304 has said that it is good."""
    key = new_key()
    listed = [told(page.ask(client, key)) for _ in range(3)]

    assert [TOLD[client]] * 3 == listed
    assert [200, 304, 304] == [status for _, method, status in asked() if method == "GET"]


@pytest.mark.parametrize("order", [*permutations(CLIENTS)])
def test_clients_that_share_a_cache_never_see_each_others_replies(order, page, new_key, catalogue):
    """On one URL, in every order and again, each client sees the list in its own dialect."""
    key = new_key()
    for client in order * 3:
        assert TOLD[client] == told(page.ask(client, key))
    catalogue.clear()
    for client in order * 2:  # even empty lists differ
        assert [] == told(page.ask(client, key))


@pytest.mark.parametrize("order", [*permutations(CLIENTS)])
def test_one_model_is_never_shown_in_anothers_dialect(order, page, new_key):
    """Retrievals on one URL differ for each client, as lists do."""
    key = new_key()
    for client in order * 2:
        assert {"model": TOLD[client][1]} == page.ask(client, key, "gpt-x")


@every_client
def test_a_wrong_key_never_sees_a_kept_list(client, page, new_key):
    """After a good key has read the list, a wrong one gets its 401, and the good one the list."""
    key = new_key()
    for _ in range(2):
        assert TOLD[client] == told(page.ask(client, key))
        assert 401 == page.ask(client, "ro_wrong")["status"]


@every_client
def test_each_key_sees_its_own_list(client, page, new_key):
    """A key of another organization never sees the list that the browser keeps of the first."""
    ours, theirs = new_key("acme"), new_key("else")
    for _ in range(2):
        assert TOLD[client] == told(page.ask(client, ours))
        assert TOLD[client][1:] == told(page.ask(client, theirs))


def test_no_cache_mode_gets_around_the_key(page, new_key):
    """A page that asks the cache first gets a kept list with no other key than its own."""
    good, wrong = ({"Authorization": f"Bearer {key}"} for key in (new_key(), "ro_wrong"))
    ids = [
        [model["id"] for model in page.read(headers=headers, cache="force-cache")["body"]["data"]]
        for headers in (good, {}, good)
    ]

    assert [["acme/coder", "gpt-x"], ["gpt-x"], ["acme/coder", "gpt-x"]] == ids
    assert 401 == page.read(headers=wrong, cache="force-cache")["status"]


def test_no_cache_mode_mixes_dialects(page):
    """A page that asks the cache first gets a kept list in its own dialect alone."""
    marks = {
        "success": {},
        "has_more": {"anthropic-version": "2023-06-01"},
        "models": {"x-goog-api-client": "page"},
    }
    for _ in range(2):
        for mark, headers in marks.items():
            body = page.read(headers=headers, cache="force-cache")["body"]

            assert {mark} == marks.keys() & body.keys()


@every_client
def test_a_revoked_key_sees_nothing_more(client, page, new_key, catalogue):
    """Once its key is revoked, the list that the browser keeps is not shown again."""
    key = new_key()
    assert TOLD[client] == told(page.ask(client, key))
    assert 204 == catalogue.admin("DELETE", f"/admin/keys/{key[3:11]}").status

    assert [401, 401] == [page.ask(client, key)["status"] for _ in range(2)]


@every_client
def test_a_new_model_shows_at_once(client, page, new_key, catalogue):
    """The next list after each write has it, whatever the browser keeps."""
    key = new_key()
    for count in range(3, 6):
        catalogue.put(f"new-{count}")

        assert count == len(told(page.ask(client, key)))


@every_client
def test_a_stranger_reads_nothing(client, visit, origins, new_key, asked):
    """A page of an origin that is not allowed gets neither answers, errors nor kept replies."""
    key = new_key()
    ours, stranger = visit(origins[0]), visit(origins[2])
    for _ in range(2):
        for wanted in ((key,), (key, "gpt-x"), ("ro_wrong",)):
            answer = stranger.ask(client, *wanted)

            assert {"error", "message"} == {name for name, value in answer.items() if value}
            assert not {"acme", "gpt-x"} & set(answer["message"].split())
        assert TOLD[client] == told(ours.ask(client, key))
    assert 2 == sum(method == "GET" for _, method, _ in asked())  # none was the stranger's


@pytest.mark.parametrize("cache", ["default", "force-cache", "no-store"])
def test_a_stranger_reads_no_public_list(cache, visit, origins):
    """A request that needs no preflight is answered, and still not shown to the stranger."""
    ours, stranger = visit(origins[0]), visit(origins[2])
    for _ in range(2):
        with pytest.raises(Exception, match="Failed to fetch"):
            stranger.read(cache=cache)
        assert 200 == ours.read(cache=cache)["status"]


def test_origins_that_share_a_cache_all_read(visit, origins, catalogue):
    """Two allowed origins and the address bar ask in turns, and each sees the list."""
    first, second = visit(origins[0]), visit(origins[1])
    bar = visit(origins[2]).tab
    for model_id in ("one", "two"):
        for _ in range(2):
            opened = bar.goto(f"{catalogue.url}/v1/models")
            read = [page.read() for page in (first, second)]

            assert [{"status": 200, "body": opened.json()}] * 2 == read
        catalogue.put(model_id)


def test_with_the_star_every_page_reads(visit, origins, serve):
    """Where the setting is *, whoever shares the browser's cache reads the same list."""
    server = serve(ROSTER_CORS_ORIGINS="*")
    assert 201 == server.admin("PUT", "/admin/models/gpt-x", {"name": "X"}).status
    pages = [visit(origin, server) for origin in origins]
    for client, page in product(CLIENTS, pages * 2):
        assert TOLD[client][1:] == told(page.ask(client, server.admin_key))
        assert 401 == page.ask(client, "ro_wrong")["status"]


def test_a_page_without_a_key_reads_the_public_list(page, asked, catalogue):
    """Nothing but fetch is needed, no preflight is sent, and a new model shows at once."""
    for ids in (["gpt-x"], ["gpt-x"], ["gpt-x", "new"]):
        if "new" in ids:
            catalogue.put("new")
        answer = page.read()

        assert (200, ids) == (answer["status"], [model["id"] for model in answer["body"]["data"]])
    assert [("openai", "GET", status) for status in (200, 304, 200)] == asked()
