"""Passwords and tokens in URLs: refused in params.yaml, which git keeps, and left out of messages."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

SECRETS = re.compile(  # the names of secrets in the queries of signed URLs and of APIs
    "(?i)(.*[-_])?"
    "(token|jwt|sig|signature|secret|pass|password|passwd|pwd|credential|auth|(api|auth|(aws)?access)?[-_]?key([-_]?id)?)"
)


def check_no_secret(source: str) -> str:
    """Return a URL or a path unchanged, after checking that params.yaml may hold it.

    Raises:
        ValueError: it is a URL that is not valid, or that has a password, or a token in its query or fragment.

    """
    if "://" not in source:
        return source
    try:
        parts = urlsplit(source)
        valid = parts.port != 0 and bool(parts.hostname or parts.scheme == "file")
    except ValueError:  # its message may quote a password
        valid = False
    if not valid:
        raise ValueError("its host or port is not valid")
    if "@" in parts.netloc:
        raise ValueError(
            "params.yaml and dvc.lock are in git, where a password would stay; "
            f"leave it out here, and put it into ~/.netrc as `machine {parts.hostname} login NAME password PASSWORD`"
        )
    fields = parse_qsl(f"{parts.query}&{parts.fragment}".replace(";", "&"))
    secret = next((name for name, _ in fields if SECRETS.fullmatch(re.sub("(?<=[a-z])(?=[A-Z])", "_", name))), None)
    if secret:
        raise ValueError(
            f"params.yaml and dvc.lock are in git, where the {secret} in it would stay; "
            "download the file with it, and set this to the path of the file"
        )
    return source


def without_secrets(text: str) -> str:
    """Return `text` with the user name, password, query and fragment of a URL in it left out."""
    with suppress(ValueError):
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        if parts.hostname and parts.port != 0 and "@" not in parts.path and not re.search(r"\s", text):
            cleaned = parts._replace(netloc=host, query="", fragment="").geturl()
            return f"{cleaned}?..." if parts.query or parts.fragment else cleaned
    return re.sub(r"(?s)(?<=://).*@|(?<=[?]).*", "...", text)
