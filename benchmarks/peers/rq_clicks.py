"""The peer of clicks: the webhook queues a job per click, and each job inserts its row."""

from datetime import datetime
from typing import Any

from flask import Flask, request
from sqlalchemy import insert

from project.clicks.intake.signatures import HEADER, is_signed_by
from project.clicks.models import clicks
from project.clicks.settings import ClickSettings
from project.config.environment import get_settings
from project.core.work.queues import QueueName, rq_queue
from project.extensions import db

app = Flask(__name__)


@app.post("/")
def take_click() -> tuple[dict[str, Any], int]:
    """Check the signature and queue a job."""
    body = request.get_data()
    if not is_signed_by(
        request.headers[HEADER], get_settings(ClickSettings).click_webhook_secrets, body
    ):
        return {"status": "error"}, 401
    click = request.get_json()
    rq_queue(QueueName.DEFAULT).enqueue(store_click, click)
    return {"status": "success", "click_id": click["click_id"]}, 202


def store_click(click: dict[str, Any]) -> None:
    """Insert one click."""
    clicked_at = datetime.fromisoformat(click["timestamp"])
    values = {name: click[name] for name in ("click_id", "offer_id", "source", "signature")}
    db.session.execute(
        insert(clicks).values(clicked_at=clicked_at, received_at=clicked_at, **values)
    )
    db.session.commit()
