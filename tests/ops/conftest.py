import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """A folder whose sockets have short paths, and that every user can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="perennial-ops-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
