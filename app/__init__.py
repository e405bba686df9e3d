"""Roster: the models endpoint of a whole company, as a small Flask application.

This is the composition root: it wires, and is imported by nothing inside the package.
"""

import time
from collections.abc import Callable

from app import api, cli, logs
from app.administration import Administration
from app.administration.catalogues import CatalogueChanges
from app.administration.history import History
from app.api.application import Application
from app.catalog.catalog import Catalog
from app.dialects import Dialects
from app.dialects.anthropic import Anthropic
from app.dialects.gemini import Gemini
from app.dialects.ollama import Ollama
from app.dialects.openai import OpenAI
from app.metrics.gathering import Metrics, is_wanted
from app.replies import ReplyCache
from app.services import Services
from app.settings import Settings, environment_settings
from app.sources import Sources
from app.sources.csv import Csv
from app.sources.ids import Ids
from app.sources.litellm import LiteLLM
from app.sources.models_dev import ModelsDev
from app.sources.ollama import Ollama as OllamaTags
from app.sources.openai import OpenAI as OpenAIList
from app.sources.openrouter import OpenRouter
from app.sources.roster import Roster
from app.store.store import Store


def create_app(
    settings: Settings | None = None, clock: Callable[[], float] = time.time
) -> Application:
    """Return the application for `settings`, or for those of the environment.

    `clock` returns Unix seconds. The store is opened at its first use.
    """
    logs.configure()
    settings = settings or environment_settings()
    app = Application(
        __name__, instance_path=str(settings.instance_path.resolve()), static_folder=None
    )
    store = Store(settings, clock)
    catalog = Catalog(store, clock, max_stale=settings.max_stale)
    replies = ReplyCache(settings.cache_bytes)
    services = Services(
        settings=settings,
        dialects=dialects_of(settings),
        store=store,
        catalog=catalog,
        administration=Administration(store, clock),
        catalogues=CatalogueChanges(store, clock, catalog, sources_of()),
        history=History(store, clock, catalog),
        replies=replies,
        metrics=Metrics(catalog, replies, store) if is_wanted() else None,
        clock=clock,
    )
    services.init_app(app)
    api.init_app(app)
    cli.init_app(app)
    return app


def dialects_of(settings: Settings) -> Dialects:
    """Return every dialect, in the order in which they are checked; the last is the default."""
    return Dialects(
        Anthropic(),
        Gemini(),
        Ollama(auth=settings.ollama_auth),
        OpenAI(reference_only=settings.reply_fields == "reference"),
    )


def sources_of() -> Sources:
    """Return every format of whole catalogues, in the order in which they are tried."""
    return Sources(
        Roster(),
        OpenRouter(),
        LiteLLM(),
        ModelsDev(),
        OpenAIList(),
        OllamaTags(),
        Csv(),
        Ids(),
    )
