"""Default cache folder: the user's, so that no call writes into the working directory or beside the data."""

from pathlib import Path

import platformdirs


def default_cache() -> Path:
    """Returns the folder that keeps decoded images, features and adapters: ``~/.cache/cytolora`` on Linux.

    Its contents can be computed anew; it may be deleted at any time.
    """
    return platformdirs.user_cache_path("cytolora", appauthor=False)
