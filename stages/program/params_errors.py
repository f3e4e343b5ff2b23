"""Error messages for params.yaml: one sentence, from pydantic's errors and the JSON schema of the params."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from stages.program.wording import did_you_mean, listed, one_line, unquoted


@dataclass(frozen=True)
class Schema:
    """The JSON schema of a pydantic model, with bare names as references between its definitions."""

    root: Mapping[str, Any]

    def sentence(self, errors: list[ErrorDetails], content: object) -> str:
        """Return a sentence on the first error; a misspelt name comes before the missing one that it stands for.

        Args:
            errors: those that pydantic reports.
            content: the validated content of params.yaml.

        """
        surplus = [error for error in errors if error["type"] == "extra_forbidden"]
        error = (surplus or errors)[0]
        names, node, block = self._locate(error["loc"], content)
        value, kind = error["input"], error["type"]
        if kind.startswith("union_tag"):
            tag = block["discriminator"]["propertyName"]
            misspelt = difflib.get_close_matches(tag, map(str, value), n=1)
            if tag not in value and misspelt:
                return f"{'.'.join([*names, *misspelt])} is not a parameter here; did you mean {tag!r}?"
            kind = "" if tag in value else "missing"
            names, value, node = [*names, tag], value.get(tag), {"enum": list(block["discriminator"]["mapping"])}
        name = ".".join(map(unquoted, names)) or "everything"
        if kind == "missing":
            return f"{name} is missing: it takes {self._accepted(node)}"
        if kind in {"extra_forbidden", "invalid_key"}:
            known = block["properties"]
            return f"{name} is not a parameter here; {did_you_mean(names[-1], known)}there are: {listed(known)}"
        if kind == "value_error":
            shown = "" if isinstance(value, dict) else f" is {one_line(value)}"
            return f"{name}{shown}: {error['msg'].removeprefix('Value error, ')}"
        quoted = isinstance(value, str) and kind in {"int_type", "float_type"} and re.fullmatch(r"[-+.\de]+", value)
        hint = "; leave out the quotation marks" if quoted else ""
        return f"{name} is {one_line(value)}: it takes {self._accepted(node)}{hint}"

    def _locate(
        self,
        loc: tuple[int | str, ...],
        content: Any,  # noqa: ANN401
    ) -> tuple[list[str], Mapping[str, Any], Mapping[str, Any]]:
        """Return the names in the file that lead to an error, the schema of the value there, and that of its block."""
        names: list[str] = []
        node = block = self.root
        for part in loc:
            block = self._resolved(node)
            if "discriminator" in block:  # the part is the tag, which is not in the file
                node = {"$ref": block["discriminator"]["mapping"][part]}
                continue
            if isinstance(part, str):
                node = block.get("properties", {}).get(part) or block.get("additionalProperties") or {}
                content = content.get(part) if isinstance(content, dict) else None
            else:
                node = block.get("items", {})
                if "items" in block and not isinstance(content, list):  # a single value, which was made a list
                    continue
            names.append(str(part))
        last = self._resolved(node)
        return names, node, last if "discriminator" in last else block

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        if "anyOf" in node:
            node = node["anyOf"][0]  # the other is null
        resolved: Mapping[str, Any] = self.root["$defs"][node["$ref"]] if "$ref" in node else node
        return resolved

    def _accepted(self, node: Mapping[str, Any]) -> str:
        """Describe the values that a schema accepts."""
        if "anyOf" in node:
            return " or ".join(map(self._accepted, node["anyOf"]))
        node = self._resolved(node)
        if "properties" in node:
            return f"a block with {', '.join(node['properties'])}"
        if "discriminator" in node:
            return f"a block with {node['discriminator']['propertyName']}"
        if "description" in node:
            return str(node["description"])
        if "enum" in node or "const" in node:
            return " or ".join(node.get("enum") or [node["const"]])
        kinds = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
        kinds |= {"array": "a list of text", "null": "null"}
        bounds = {"minimum": "from {}", "exclusiveMinimum": "greater than {}", "maximum": "at most {}",
                  "exclusiveMaximum": "less than {}", "minLength": "of at least {} character"}  # fmt: skip
        words = [text.format(node[key]) for key, text in bounds.items() if key in node]
        return " ".join([kinds.get(node.get("type", ""), "a block"), " and ".join(words)]).strip()
