"""Throw away the data of the copy in VAR_DIR: python -m ops.clean. External servers are left."""

import shutil
import sys

from ops import environment, postgres, valkey
from ops.errors import OpsError, exit_status
from ops.exclusive import is_running
from ops.places import spare_place
from ops.privileges import copy_account_name, remove_account

# VAR_DIR may be a folder that others use too: only what is ours goes.
OURS = (postgres.NAME, valkey.NAME, "log", "run", "secrets")


def main() -> int:
    """Delete the embedded databases, logs and passwords, if the answer is yes."""
    settings = environment.load()
    if is_running(settings):
        raise OpsError(f"A copy is running in {settings.var_dir}. Stop it first.")
    elsewhere = spare_place(settings.var_dir)
    folders = [settings.var_dir / name for name in OURS] + [elsewhere]
    present = [folder for folder in folders if folder.exists()]
    if not present:
        print(f"There are no data in {settings.var_dir}.")
        return 0
    if "--yes" not in sys.argv and not _agreed([str(folder) for folder in present]):
        print("Nothing was deleted.")
        return 1
    for folder in present:
        shutil.rmtree(folder)
    remove_account(copy_account_name(settings.var_dir))
    print("Deleted.")
    return 0


def _agreed(folders: list[str]) -> bool:
    print("These folders and all data in them will be deleted:", *folders, sep="\n  ")
    print("Type yes to go on: ", end="", flush=True)
    return sys.stdin.readline().strip() == "yes"


if __name__ == "__main__":
    sys.exit(exit_status(main))
