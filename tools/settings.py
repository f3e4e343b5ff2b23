"""Params as `dvc exp run --set-param` takes them, quoted for the shell."""

from __future__ import annotations

import json
import re

PLAIN = re.compile(r"(?!null$|true$|false$)[A-Za-z/][\w./-]*")  # text that neither Hydra nor a shell reads otherwise


def setting(name: str, value: object) -> str:
    """Return NAME=VALUE, quoted where it has to be."""
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return f"{name}={value}"
    text = for_hydra(value)
    return f"{name}={text}" if text.isalnum() else quote(f"{name}={text}")


def for_hydra(value: object) -> str:
    """Return a param's value as `--set-param` takes it; backslashes are escaped before quotation marks only."""
    if isinstance(value, list):
        return f"[{','.join(map(for_hydra, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{for_hydra(one)}' for key, one in value.items())}}}"
    if isinstance(value, str):
        return '"' + re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + match[2].replace('"', '\\"'), value) + '"'
    return json.dumps(value)


def quote(text: str) -> str:
    """Return text quoted for the shell."""
    return "'" + text.replace("'", "'\\''") + "'"
