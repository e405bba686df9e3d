"""The WSGI application with a fifth dialect, for a gunicorn behind the site.

The dialect is that of ``tests/dialects/test_made_up.py``. One header selects it, and the shipped
site does not know that header.
"""

import app as factory
from app.dialects import Dialects
from tests.dialects.test_made_up import MadeUp

_shipped = factory.dialects_of
factory.dialects_of = lambda settings: Dialects(MadeUp(), *_shipped(settings))
app = factory.create_app()
