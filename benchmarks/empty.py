"""The ceiling of the check route: the least that Flask can do, under the same server."""

from flask import Flask

app = Flask(__name__)


@app.post("/empty")
def answer_nothing() -> str:
    """Answer 200 without a body."""
    return ""
