"""The real application behind a limit and an outage, for the keys that are named after them.

gunicorn serves ``tests.sdk.refusing:app``.
"""

import time

from werkzeug.exceptions import TooManyRequests

from app import create_app
from app.api.context import request
from app.catalog.errors import StoreUnavailable

#: Seconds for which a key named "paced" is refused from its first request on. A little less than
#: what ``Retry-After`` says, for a client's clock may run a little ahead of the server's.
PACE = 0.9

app = create_app()
first_seen = {}


@app.before_request
def refuse():
    """Refuse a key whose name says so; the guard has read it already."""
    key = request.context.key
    name = None if key is None else key.name
    now = time.monotonic()
    paced = name == "paced" and now - first_seen.setdefault(key.kid, now) < PACE
    if name == "limited" or paced:
        raise TooManyRequests("Too many requests. Slow down.", retry_after=1)
    if name == "down":
        raise StoreUnavailable("It is down for a test.")
