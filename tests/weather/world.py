"""Forecasts, subscribers and files for tests, by the API as operators use it."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from project.core.db.transaction import transaction
from project.weather.imports import runner
from project.weather.models import Subscriber, TaskError

MOSCOW = (55.7558, 37.6173)
ISTANBUL = (41.0082, 28.9784)
ANKARA = (39.9334, 32.8597)
ADDITIONS = "ts,msisdn,original_sub_plan,lat,lon"
CANCELLATIONS = "ts,msisdn"
UPDATES = "ts,msisdn,lat,lon"
FORECASTS = "gid,lat,lon,fcat24,fcat48"
# After whatever a test has done by the API, which happens when it is done.
NOW = f"{datetime.now(UTC) + timedelta(hours=12):%Y-%m-%dT%H:%M:%SZ}"


class Operator:
    """Somebody with the operator's key."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def forecast(self, gid: int, place: tuple[float, float], **values: Any) -> None:
        """Make a forecast."""
        body = {"gid": gid, "lat": place[0], "lon": place[1], "fcat24": "Sun", "fcat48": "Rain"}
        answer = self.client.post("/api/forecasts", json=body | values)
        assert answer.status_code == 201, answer.json

    def subscriber(
        self, msisdn: str, place: tuple[float, float] = MOSCOW, plan: str = "daily"
    ) -> Any:
        """Add a subscriber and return it."""
        body = {"msisdn": msisdn, "lat": place[0], "lon": place[1], "plan": plan}
        answer = self.client.post("/api/subscribers", json=body)
        assert answer.status_code == 201, answer.json
        return answer.json["data"]

    def shown(self, msisdn: str) -> Any:
        """Return a subscriber, or None."""
        answer = self.client.get(f"/api/subscribers/{msisdn}")
        return answer.json["data"] if answer.status_code == 200 else None

    def upload(self, what: str, content: str | bytes, **query: Any) -> Any:
        """Upload a file and return the answer: `what` is forecasts or one of the subscribers'."""
        path = "/api/forecasts/upload_csv/"
        if what != "forecasts":
            path = f"/api/subscribers/upload_{what}_csv/"
        raw = content.encode() if isinstance(content, str) else content
        file = FileStorage(io.BytesIO(raw), "list.csv", "file")
        # The test client's own way leaves large files open.
        boundary, body = encode_multipart({"file": file})
        content_type = f"multipart/form-data; boundary={boundary}"
        return self.client.post(path, data=body, content_type=content_type, query_string=query)

    def imported(self, what: str, content: str | bytes, **query: Any) -> Any:
        """Upload a file, have it read, and return the task."""
        answer = self.upload(what, content, **query)
        assert answer.status_code == 202, answer.json
        runner.run()
        return self.task(answer.json["task_id"])

    def task(self, task_id: str) -> Any:
        """Return a task."""
        return self.client.get(f"/api/tasks/{task_id}").json["data"]

    def errors(self, task_id: str) -> list[tuple[int, str, str]]:
        """Return what was wrong in a file: row, column, value."""
        with transaction(read_only=True) as session:
            found = session.scalars(
                select(TaskError)
                .where(TaskError.task_id == UUID(task_id))
                .order_by(TaskError.row, TaskError.column)
            )
            return [(one.row, one.column, one.value) for one in found if not one.is_note]

    def notes(self, task_id: str) -> list[int]:
        """Return the rows of a file of which something was noted."""
        with transaction(read_only=True) as session:
            return list(
                session.scalars(
                    select(TaskError.row)
                    .where(TaskError.task_id == UUID(task_id), TaskError.is_note)
                    .order_by(TaskError.row)
                )
            )


def lines(header: str, *rows: str) -> str:
    """Return a file."""
    return "\n".join((header, *rows)) + "\n"


def addition(msisdn: str, plan: str = "1", place: tuple[float, float] = MOSCOW) -> str:
    """Return a row of additions."""
    return f"{NOW},{msisdn},{plan},{place[0]},{place[1]}"


def counts(task: Any) -> tuple[int, int, int, int]:
    """Return (created, updated, skipped, failed) of a task."""
    return task["created"], task["updated"], task["skipped"], task["failed"]


def everything() -> list[dict[str, Any]]:
    """Return every subscriber but for its times."""
    columns = [
        column
        for column in Subscriber.__table__.columns
        if not column.name.endswith("_at") and column.name != "id"
    ]
    with transaction(read_only=True) as session:
        rows: Sequence[Any] = session.execute(select(*columns).order_by(Subscriber.msisdn)).all()
        return [dict(row._mapping) for row in rows]
