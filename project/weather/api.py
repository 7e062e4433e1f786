"""The routes of the forecast SMS."""

from flask import Flask

from project.core.http.api import Blueprint, rest_api
from project.weather.forecasts.routes import blueprint as forecasts
from project.weather.imports.routes import forecast_imports, subscriber_imports, task_list
from project.weather.input import MsisdnConverter
from project.weather.messages.routes import messages, sending
from project.weather.subscribers.routes import blueprint as subscribers

PATHS = {
    "forecasts": ("/api/forecasts", "/forecasts/api/v1/forecasts"),
    "subscribers": (
        "/api/subscribers",
        "/subscriptions/api/v1/subscriptions",
        "/subscription/api/v1/subscription",
    ),
}
"""Where a resource is served: at its own path, and at those that older clients know."""


def register(app: Flask) -> None:
    """Serve the routes of the forecast SMS."""
    app.url_map.converters["msisdn"] = MsisdnConverter
    rest_api.register_converter(
        MsisdnConverter, lambda _: {"type": "string", "pattern": "^[+]?[0-9]{1,17}$"}
    )
    for blueprint in (forecasts, forecast_imports):
        _serve(blueprint, PATHS["forecasts"])
    for blueprint in (sending, subscribers, subscriber_imports):
        _serve(blueprint, PATHS["subscribers"])
    rest_api.register_blueprint(task_list, url_prefix="/api/tasks")
    rest_api.register_blueprint(messages, url_prefix="/api/messages")


def _serve(blueprint: Blueprint, paths: tuple[str, ...]) -> None:
    for number, path in enumerate(paths):
        name = blueprint.name if number == 0 else f"{blueprint.name}_older_{number}"
        rest_api.register_blueprint(blueprint, url_prefix=path, name=name)
