"""HTTP: routes, status codes, headers; everything that needs Flask."""

from app.api import admin, catalogues, errors, history, models, operation
from app.api.application import Application


def init_app(app: Application) -> None:
    """Register the routes and the error handlers."""
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    errors.init_app(app)
    models.init_app(app)
    for module in (admin, catalogues, history, operation):
        app.register_blueprint(module.blueprint)
