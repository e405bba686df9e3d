"""What the drivers of the Python clients share; run by the interpreter of any environment.

A driver takes steps from the standard input, a JSON list of such objects:
``{"url": …, "key": …, "retries": 0}`` lists, with ``"page"`` so many at a time, with ``"id"`` it
retrieves. For each it prints what the client made of the answer: `models` or `model` with
``id``, ``name`` and ``length``, or `error` with its type, what it `says` and its `request_id`.
"""

import json
import sys


def drive(connect, listing, retrieve):
    """Take each step with a new client, and print what came of them."""
    json.dump(
        [_outcome(step, connect, listing, retrieve) for step in json.load(sys.stdin)], sys.stdout
    )


def _outcome(step, connect, listing, retrieve):
    client = connect(step["url"], step["key"], step["retries"])
    try:
        if "id" in step:
            return {"model": retrieve(client, step["id"])}
        return {"models": list(listing(client, step.get("page")))}
    except Exception as error:  # noqa: BLE001 - which one it is, is what the tests ask
        request_id = getattr(error, "request_id", None)
        return {"error": type(error).__name__, "says": str(error), "request_id": request_id}
