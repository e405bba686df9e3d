"""The WSGI entry point: gunicorn serves ``wsgi:app``, and ``flask`` finds it here."""

import sys

from app import create_app
from app.cli.server import announce
from app.settings import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(f"Roster cannot start with these settings:\n{error}")
announce(app)
