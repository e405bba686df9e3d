"""HTTP: the routes, and what all of them share. Flask and status codes live here."""

from app.api import admin, errors, models, operation
from app.api.application import Application


def init_app(app: Application) -> None:
    """Give `app` the routes, and the answers to every error."""
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    errors.init_app(app)
    models.init_app(app)
    for blueprint in (admin.blueprint, operation.blueprint):
        app.register_blueprint(blueprint)
