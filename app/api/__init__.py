"""HTTP: the routes, and what all of them share. Flask and status codes live here."""

from flask import Flask

from app.api import admin, auth, errors, exchange, models, operation


def init_app(app: Flask) -> None:
    """Give `app` the routes, the guard in front of them and the answers to every error."""
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.before_request(auth.guard)
    app.after_request(exchange.finish)
    errors.init_app(app)
    models.init_app(app)
    for blueprint in (admin.blueprint, operation.blueprint):
        app.register_blueprint(blueprint)
