"""Bundles on the Hugging Face hub: an address, and its files fetched into the hub's cache."""

import re
from collections.abc import Callable
from pathlib import Path

from cytolora.classifier.bundle.files import CONTENTS
from cytolora.core.arguments import AnyPath, as_path
from cytolora.errors import BundleError
from cytolora.models.checkpoints.stalls import StalledError, telling, unless_stalled

_ADDRESS = re.compile(r"hf:/{0,2}(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?")
_EXPECTED = "Expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION."


def is_address(path: AnyPath) -> bool:
    """Whether a bundle is named by its place on the hub: ``hf:OWNER/NAME``, ``hf://OWNER/NAME``."""
    return str(path).startswith("hf:")


def name_of(address: AnyPath) -> tuple[str, str | None]:
    """Returns owner and name, ``OWNER/NAME``, and the revision where one is named.

    Raises:
        BundleError: If it is no such address.
    """
    found = _ADDRESS.fullmatch(str(address))
    if found is None:
        raise BundleError(f"Cannot fetch {address}: it names no repository. {_EXPECTED}")
    return found["name"], found["revision"]


def local(path: AnyPath) -> Path:
    """Returns where a bundle lies on this machine; one on the hub is fetched first, into the hub's cache.

    Raises:
        BundleError: If it cannot be fetched.
    """
    return _fetch(path) if is_address(path) else as_path(path)


def _fetch(address: AnyPath) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import tqdm

    from cytolora.models.checkpoints.hub import STALL_SECONDS

    name, revision = name_of(address)

    def download(tell: Callable[[], None]) -> Path:
        bar = telling(tqdm, tell)
        first = Path(snapshot_download(name, revision=revision, tqdm_class=bar, allow_patterns=[CONTENTS]))
        if not (first / CONTENTS).is_file():  # not a byte more: it may be a repository of many gigabytes
            raise BundleError(f"Cannot fetch {address}: it is no bundle, for it has no {CONTENTS}. {_EXPECTED}")
        return Path(snapshot_download(name, revision=first.name, tqdm_class=bar))  # of the same commit

    try:
        return unless_stalled(download, seconds=STALL_SECONDS)
    except StalledError as error:
        raise BundleError(
            f"The download of {address} came to a halt: less than 10 MB in {STALL_SECONDS:.0f} s. What has arrived is "
            "kept; load it again, and it goes on from there."
        ) from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, *transport_errors()) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"Cannot fetch {address}: {reason} {_EXPECTED}") from error


def transport_errors() -> tuple[type[Exception], ...]:
    """Errors of the HTTP client below the hub's (httpx, or its successor), from which the hub's own inherit."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(one for one in HfHubHTTPError.__mro__ if one.__name__ == "HTTPError" and issubclass(one, Exception))
