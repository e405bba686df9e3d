"""A clock that jumps does no harm: what depends on the time follows it, and nothing else does."""

import pytest

#: 2027-01-15T00:00:00Z
MIDNIGHT = 1_799_971_200
DAY = 24 * 60 * 60
YEAR = 365 * DAY
#: Where the clock stands, one after another: seconds from midnight.
JUMPS = (0, DAY, -DAY, YEAR, 0, -YEAR, -1, 0, 1, 2 * YEAR, -3 * YEAR, DAY, 0)


@pytest.fixture
def jumping(clock):
    """Yield each place to which the clock has jumped, in seconds from midnight."""

    def jumps():
        for jump in JUMPS:
            clock.now = MIDNIGHT + jump
            yield jump

    clock.now = MIDNIGHT
    return jumps


def test_dates_follow_the_clock(client, admin, jumping):
    """What is shown is what the time says, and at the same time it is the same bytes and tag."""
    admin.add("always", created=0)
    admin.add("from midnight", created=0, available_from=MIDNIGHT)
    admin.add("until midnight", created=0, shutdown_date="2027-01-15")
    seen = {}
    for jump in jumping():
        answer = client.get("/v1/models")
        later = "from midnight" if jump >= 0 else "until midnight"

        assert sorted(["always", later]) == [entry["id"] for entry in answer.json["data"]]
        for model_id in ("from midnight", "until midnight"):
            shown = client.get(f"/v1/models/{model_id}").status_code
            assert (200 if model_id == later else 404) == shown
        state = seen.setdefault(jump >= 0, (answer.data, answer.headers["ETag"]))
        assert state == (answer.data, answer.headers["ETag"])
        assert 304 == client.get("/v1/models", headers={"If-None-Match": state[1]}).status_code
    assert seen[True] != seen[False]


def test_keys_follow_the_clock_and_a_revoked_one_stays_dead(client, admin, clock, jumping):
    """A key lives until its time, whatever jumps there were; no jump revives a revoked one."""
    ending = admin.new_key("ending", expires_at=MIDNIGHT + DAY)
    lasting, revoked = admin.new_key("lasting"), admin.new_key("revoked")
    clock.now = MIDNIGHT + 2 * YEAR
    assert 204 == admin("DELETE", f"/admin/keys/{revoked[3:11]}").status_code
    clock.now = MIDNIGHT
    rotated = admin("POST", f"/admin/keys/{admin.new_key()[3:11]}/rotate", {"grace": 0}).json
    for jump in jumping():

        def status(key):
            return client.get("/v1/models", headers={"x-api-key": key}).status_code

        assert (200 if jump < DAY else 401) == status(ending), jump
        assert [200, 401, 200] == [status(lasting), status(revoked), status(rotated["key"])]
        assert 200 == admin("GET", "/admin/keys").status_code


def test_writes_are_in_the_order_in_which_they_came(client, admin, clock, jumping, log):
    """The time in the log goes where the clock goes; revisions only grow, and readers follow."""
    admin.add("kept")
    revision = admin("GET", "/admin/models/kept").json["revision"]
    for number, jump in enumerate(jumping()):
        made = admin.add(f"m{number}")
        merged = admin("PATCH", "/admin/models/kept", {"context_length": number + 1})

        assert MIDNIGHT + jump == made["created"]
        assert [revision + 1, revision + 2] == [made["revision"], merged.json["revision"]]
        revision += 2
        assert number + 1 == client.get("/v1/models/kept").json["context_length"]
        assert 412 == admin("DELETE", "/admin/models/kept", If_Match='"1"').status_code
        assert revision == client.get("/readyz").json["revision"]
    lines = log()

    assert list(range(1, revision + 1)) == [line.revision for line in lines]
    jumped = [MIDNIGHT + jump for jump in JUMPS for _ in range(2)]
    assert jumped == [line.at for line in lines[-len(jumped) :]]


def test_the_age_of_the_snapshot_is_not_told_by_the_clock(
    app, client, admin, jumping, monkeypatch
):
    """In an outage x-roster-stale counts seconds that passed, whatever the clock says."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    monkeypatch.setattr("app.catalog.catalog.PAUSE", 0)
    admin.add("x")
    assert 200 == client.get("/v1/models").status_code
    path = app.extensions["roster"].settings.database_path
    path.rename(path.with_name("elsewhere"))
    for _ in jumping():
        answer = client.get("/v1/models")

        assert (200, ["x"]) == (answer.status_code, [e["id"] for e in answer.json["data"]])
        assert 0 <= int(answer.headers["x-roster-stale"]) < 60
        assert 503 == admin("POST", "/admin/models", {"id": "y"}).status_code
        assert 0 <= client.get("/readyz").json["image_age"] < 60
    path.with_name("elsewhere").rename(path)

    assert "x-roster-stale" not in client.get("/v1/models").headers
    assert 201 == admin("POST", "/admin/models", {"id": "y"}).status_code
