"""The dates of a model in each dialect, to the second, and the headers that have them."""

import pytest

from app import create_app
from app.settings import Settings

APPEARS = 1_799_971_200  # 2027-01-15T00:00:00Z
DEPRECATED = 1_801_440_000  # 2027-02-01T00:00:00Z
RETIRES = 1_803_859_200  # 2027-03-01T00:00:00Z
DATES = {
    "available_from": APPEARS,
    "deprecation": "2027-02-01T02:00:00+02:00",
    "shutdown_date": "2027-03-01",
}
#: The headers about them.
NAMES = ("Deprecation", "Sunset", "Link")
ENDS = ["@1801440000", "Mon, 01 Mar 2027 00:00:00 GMT"]
#: The path of a model, by the names of the dialects that have one for GET.
PATHS = dict.fromkeys(("openai", "anthropic"), "/v1/models/") | {"gemini": "/v1beta/models/"}


@pytest.fixture
def dated(admin):
    """A model with all dates for everyone, whose successor acme alone sees; a key of acme."""
    acme = [{"organization": "acme"}]
    admin.add("always", created=0)
    admin.add("a b/new:1", permission=acme, created=0)
    admin.add("old", deprecation_replacement_model="a b/new:1", created=0, **DATES)
    return admin.new_key(organization="acme")


def headers_of(answer):
    return [answer.headers.get(name) for name in NAMES]


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("moment", [APPEARS, DEPRECATED, RETIRES])
def test_a_model_changes_at_the_second(answers, dated, clock, moment, has_key):
    """List, tag, headers and 404 are of one side before, and of the other at and after it."""
    key = {"x-api-key": dated} if has_key else {}
    seen = []
    for clock.now in (moment - 1, moment, moment + 1):
        seen.append(answers("old", **key))
        is_live = APPEARS <= clock.now < RETIRES
        for name, (listing, one) in seen[-1].items():
            link = [None]
            if has_key and name in PATHS:
                link = [f'<{PATHS[name]}a%20b%2Fnew%3A1>; rel="successor-version"']
            expected = [*ENDS, *link] if is_live else [None] * 3

            assert (200 if is_live else 404, expected) == (one.status_code, headers_of(one))
            assert is_live == ('"old' in listing.text or '"models/old"' in listing.text)
            assert [None] * 3 == headers_of(listing)
    for name, (listing, one) in seen[1].items():
        (listing_before, one_before), (listing_after, one_after) = seen[0][name], seen[2][name]

        assert listing.headers["ETag"] == listing_after.headers["ETag"]
        assert one.headers.get("ETag") == one_after.headers.get("ETag")
        # Of a deprecation only Anthropic's dialect has a field that changes then.
        changes = moment != DEPRECATED or name == "anthropic"
        assert changes == (listing.headers["ETag"] != listing_before.headers["ETag"])
        if name != "ollama":
            assert changes == (one.headers.get("ETag") != one_before.headers.get("ETag"))


def test_a_model_without_dates_has_none_of_the_headers(answers, dated):
    """No answer has one that its entry does not give a reason for."""
    for _, one in answers("always").values():
        assert (200, [None] * 3) == (one.status_code, headers_of(one))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/models/", "/models/", "/openai/v1/models/"])
def test_a_link_keeps_to_the_path(client, dated, clock, path, method):
    """It leads to the successor, beside the URL that was asked for; an alias has it, too."""
    clock.now = DEPRECATED
    key = {"x-api-key": dated}
    answer = client.open(f"{path}old", method=method, headers=key)
    link = answer.headers["Link"]
    successor = client.get(link[1 : link.index(">")], headers=key)

    assert link == f'<{path}a%20b%2Fnew%3A1>; rel="successor-version"'
    assert (200, "a b/new:1") == (successor.status_code, successor.json["id"])


def test_only_what_can_be_retrieved_is_linked(client, admin, clock):
    """A name of no entry, or of one that is not live, is no link; an alias is one.

    The body may have the name in any case, and the entity tag follows the link.
    """
    admin.add("old", deprecation_replacement_model="new", created=0)
    tags = {}

    def link():
        answer = client.get("/v1/models/old", headers={"Anthropic-Version": "x"})
        tags.setdefault(answer.headers.get("Link"), set()).add(answer.headers["ETag"])
        again = {"Anthropic-Version": "x", "If-None-Match": answer.headers["ETag"]}
        known = client.get("/v1/models/old", headers=again)
        assert (304, headers_of(answer)) == (known.status_code, headers_of(known))
        return answer.headers.get("Link")

    assert None is link()

    admin.add("newest", aliases=["new"], available_from=APPEARS, shutdown_date="2027-03-01")
    links = []
    for clock.now in (APPEARS - 1, APPEARS, RETIRES - 1, RETIRES):
        links.append(link())
    linked = '</v1/models/new>; rel="successor-version"'

    assert [None, linked, linked, None] == links
    assert [1, 1] == [*map(len, tags.values())]
    assert tags[None] != tags[linked]


def test_every_name_of_a_model_has_its_headers(client, admin, clock):
    """Its aliases have them, those that lists show as well as others."""
    clock.now = APPEARS
    admin.add("new")
    for model_id, is_listed in (("x", True), ("y", False)):
        aliases = {"aliases": [f"{model_id}-alias"], "list_aliases": is_listed}
        admin.add(model_id, deprecation_replacement_model="new", **aliases, **DATES)
        answers = [client.get(f"/v1/models/{name}") for name in (model_id, *aliases["aliases"])]

        assert [[*ENDS, '</v1/models/new>; rel="successor-version"']] * 2 == [
            *map(headers_of, answers)
        ]


def test_the_reference_fields_have_the_headers(tmp_path, clock, sign_in):
    """With ROSTER_FIELDS=reference a client still reads from them what the body lacks."""
    app = create_app(Settings(instance_path=tmp_path, reply_fields="reference"), clock)
    clock.now = APPEARS
    admin = sign_in(app)
    admin.add("new")
    admin.add("old", deprecation_replacement_model="new", **DATES)
    answer = app.test_client().get("/v1/models/old")

    assert [*ENDS, '</v1/models/new>; rel="successor-version"'] == headers_of(answer)
    assert "shutdown_date" not in answer.json


@pytest.mark.parametrize(
    ("deprecation", "sent"),
    [
        ("1969-12-31T23:59:59.5Z", "@-1"),
        ("0001-01-01T00:00:00+14:00", "@-62135647200"),
        ("9999-12-31T23:59:59-14:00", "@253402351199"),
    ],
)
def test_any_moment_is_whole_seconds(client, admin, deprecation, sent):
    """The moment may be past or to come; the second in which it is counts."""
    admin.add("x", deprecation=deprecation)

    assert sent == client.get("/v1/models/x").headers["Deprecation"]
