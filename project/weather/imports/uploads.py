"""Files as they are uploaded: kept on disk while they come, never in memory as a whole."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from project.config.environment import get_settings
from project.core.errors import BadRequest
from project.weather.settings import ImportSettings
from project.weather.tasks import PIECE_BYTES

RAW_TYPES = ("text/csv", "text/plain", "application/csv", "application/octet-stream")
FORM_BYTES = 64 * 1024
IN_MEMORY_BYTES = 2 * PIECE_BYTES


@dataclass(frozen=True)
class Upload:
    """A file that has come in whole."""

    name: str | None
    stream: IO[bytes]

    def pieces(self) -> Iterator[bytes]:
        """Give the file anew from its beginning."""
        self.stream.seek(0)
        while piece := self.stream.read(PIECE_BYTES):
            yield piece


def most_upload_bytes() -> int:
    """Return how large the body of an upload may be: the file, and the form around it."""
    return get_settings(ImportSettings).import_max_bytes + FORM_BYTES


@contextmanager
def taken_upload(request: Request) -> Iterator[Upload]:
    """Take the file of a multipart form (`file`), or the body itself as text/csv, for a while.

    Raises BadRequest if there is none or it is empty, and 413 over IMPORT_MAX_BYTES. No
    transaction must be open: a slow client would keep it so.
    """
    if request.mimetype == "multipart/form-data":
        upload = _from_form(request)
    elif request.mimetype in RAW_TYPES:
        upload = _from_body(request)
    elif not request.mimetype and not request.content_length:
        raise _no_file()
    else:
        raise UnsupportedMediaType
    with upload.stream:
        _check_size(upload.stream.seek(0, 2))
        yield upload


def _check_size(size: int) -> None:
    if size > get_settings(ImportSettings).import_max_bytes:
        raise RequestEntityTooLarge
    if not size:
        raise BadRequest("The file is empty.", {"file": ["Empty."]})


def _from_form(request: Request) -> Upload:
    files = [one for several in request.files.listvalues() for one in several]
    if not files:
        raise _no_file()
    if len(files) > 1:
        raise BadRequest("Send one file at a time.", {"file": [f"There are {len(files)}."]})
    given = files[0]
    return Upload(given.filename, given.stream)


def _from_body(request: Request) -> Upload:
    stream = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        while piece := request.stream.read(PIECE_BYTES):
            stream.write(piece)
    except BaseException:
        stream.close()
        raise
    return Upload(None, stream)


def _no_file() -> BadRequest:
    return BadRequest(
        "Send the file as `file` in a multipart form, or as the body with the type text/csv.",
        {"file": ["Missing."]},
    )
