"""The limit of requests that search a list or go on from a cursor; other limits: test_refusals.py.

Nobody is behind the site: what it does not limit is a 502. A test has an address of its own for
each request that it looks at, for nginx counts by address.
"""

import re
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from bench.servers import SITE, shipped_site
from tests.deploy.test_refusals import DIALECTS, check
from tests.dialects.derived import address, parameters_of, sizes_of

#: Changes of the site by which the second request that counts is refused.
ONE = {"rate=10r/s": "rate=1r/m", "burst=100 ": ""}
#: Texts behind the ? of a URL. The application reads some as a search, and not the others.
QUERIES = """q=e q q= q#x q=%20 limit=5&q=e limit=5&q &q=e q&limit=5 owned_by=acme&limit=5
after=a=b Q=e qq=e aq=e q2=e x=q x=&limit=5 x=?q=e ?q=e limit=5;q=e q+=e q;=e after_=x beforeid=x x
alt=json pagetoken=x key=x key=a%20b&limit=5 limit=%35 =%71 limit=5#q=e limit=5 pageSize=5"""
#: Those with an escaped parameter name, whatever it is.
ESCAPED = """%71=e limit=5&%71=e %71 page%54oken=x own%65d_by=x %6Cimit=5 x=1&%78=1 %=1
key=%20&%71=e"""

pytestmark = pytest.mark.needs("nginx", "nginx")


@pytest.fixture
def limited(nginx, tmp_path):
    """Return what sends requests to the site from one address, another one at each call."""
    numbers = count(2)

    def start(changes):
        site = nginx(tmp_path / "nobody", changes=changes)

        def ask(*paths, **headers):
            with closing(site.connect()) as connection:
                connection.source_address = (f"127.0.0.{next(numbers)}", 0)
                return [site("GET", path, connection=connection, **headers) for path in paths]

        return ask

    return start


def statuses(answers):
    return [answer.status for answer in answers]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_parameter_of_a_dialect_is_limited_unless_it_is_a_size(limited, dialect):
    """The second request with it is refused, in the caller's dialect; with a size, it is not."""
    ask, own = limited(ONE), DIALECTS[dialect]
    path, headers = address(own)
    for name in parameters_of(own) - sizes_of(own):
        answers = ask(f"{path}?{name}=a", f"{path}?limit=5&{name}=a", **headers)

        assert [502, 429] == statuses(answers), name
        check(429, dialect, answers[-1])
    for name in sizes_of(own) | {own.key_parameter or "x"}:
        assert [502] * 5 == statuses(ask(*[f"{path}?{name}=5"] * 5, **headers)), name


def test_the_site_limits_what_the_application_reads_as_a_search(limited, unopened_app):
    """However the query is spelt; and nothing else, but for escaped names."""
    ask, seen = limited(ONE), set()
    names = set().union(*(parameters_of(d) - sizes_of(d) for d in DIALECTS.values()))
    for query in QUERIES.split():
        with unopened_app.test_request_context(f"/v1/models?{query}") as context:
            searches = bool(names & {*context.request.args})
        seen.add(searches)
        expected = [502, 429 if searches else 502]

        assert expected == statuses(ask(*[f"/v1/models?{query}"] * 2)), query
    for query in ESCAPED.split():
        assert [502, 429] == statuses(ask(*[f"/v1/models?{query}"] * 2)), query
    assert {True, False} == seen


def test_administration_is_not_limited_as_a_search(limited):
    """All public paths are, also in another spelling; this network may administer."""
    ask = limited({**ONE, "# allow 10.0.0.0/8;": "allow 127.0.0.0/8;"})
    for path in ("/admin/models?q=x", "/admin/models?%71=x", "/admin?q=x"):
        assert [502] * 5 == statuses(ask(*[path] * 5))
    paths = "/v1/models /v1/mod%65ls /v1/models/x /models /openai/v1/models /adminx"
    for path in (f"{path}?q=x" for path in paths.split()):
        assert [502, 429] == statuses(ask(path, path))


def test_an_office_behind_one_address_meets_the_limit_with_searches_alone(limited):
    """A burst of 100 is let through; while searches are refused, lists are not, nor are others."""
    ask = limited({"rate=10r/s": "rate=1r/m", "rate=300r/s": "rate=300r/s"})
    searches, lists = ["/v1/models?q=x"] * 101, ["/v1/models", "/v1/models?limit=5"]
    found = statuses(ask(*searches, searches[0], *lists, searches[0], *lists * 200))

    assert [502] * 101 == found[:101]
    assert [429, 502, 502, 429] == found[101:105]
    assert [502] * 400 == found[105:]
    assert [502] * 101 == statuses(ask(*searches))


def test_the_measurements_meet_no_limit():
    """The site that is measured has each rate of the shipped one raised beyond reach."""
    text = shipped_site(SITE.read_text(), Path("s"), 1, Path("cache"))
    rates = re.findall(r"limit_req_zone.*rate=([^;]+);", SITE.read_text())

    assert ["1000000r/s"] * len(rates) == re.findall(r"limit_req_zone.*rate=([^;]+);", text)
    assert ["300r/s", "10r/s", "5r/s"] == rates
