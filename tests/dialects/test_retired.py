"""A retired model in each dialect, over HTTP: absent from the list, and its whole 404."""

import pytest

from tests.dialects.conftest import FULL

#: By dialect, what a client gets; a retired model may have a replacement, which is the advice.
BODIES = {
    "openai": {
        "error": {
            "message": "The model 'acme/seer:8b' does not exist{advice}",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    },
    "anthropic": {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: acme/seer:8b{advice}"},
        "request_id": "{request_id}",
    },
    "gemini": {
        "error": {
            "code": 404,
            "message": "models/acme/seer:8b is not found for API version v1beta{advice}",
            "status": "NOT_FOUND",
        }
    },
    "ollama": {"error": "model 'acme/seer:8b' not found{advice}"},
}


@pytest.mark.parametrize("replacement", [None, "x"])
def test_a_retired_model_is_a_404(answers, admin, compact, clock, replacement):
    """A model ends on its shutdown date, in list and retrieval; its replacement is named."""
    admin("POST", "/admin/models", FULL)
    admin("PATCH", "/admin/models/acme%2Fseer:8b", {"deprecation_replacement_model": replacement})
    admin.add("x")
    clock.now = 1_832_889_600 - 1  # 2028-01-31T00:00:00Z, less a second
    advice = "" if replacement is None else f": it was retired, use '{replacement}' instead"
    before = answers()
    clock.now += 1
    after = answers()

    assert before.keys() == BODIES.keys() == after.keys()
    for name, (listing, one) in after.items():
        assert [200, 200] == [answer.status_code for answer in before[name]]
        assert FULL["id"] in before[name][0].text
        assert FULL["id"] not in listing.text
        expected = compact(BODIES[name]).decode().replace("{advice}", advice)
        request_id = one.headers["request-id"]
        assert (404, expected.replace("{request_id}", request_id)) == (one.status_code, one.text)


def test_a_chain_leads_to_its_end(answers, admin, clock):
    """A retired model that replaced another is not named: the model in its place is."""
    admin.add("end", aliases=["current"])
    admin.add("middle", shutdown_date="2027-01-01", deprecation_replacement_model="current")
    admin("POST", "/admin/models", {**FULL, "deprecation_replacement_model": "middle"})
    clock.now = 1_832_889_600  # 2028-01-31T00:00:00Z

    for _, one in answers().values():
        assert ": it was retired, use 'current' instead" in one.text
