"""The application with room for a hundred log lines that nobody reads, and not for 10,000."""

import app.logs

app.logs.MAX_WAITING = 20_000  # bytes

from wsgi import app  # noqa: E402 - gunicorn finds it here
