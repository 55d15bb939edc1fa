"""Where a file of a model is fetched from: a hub, a mirror of it, a template, or a folder. Pure."""

from __future__ import annotations

import string
import urllib.parse
from dataclasses import dataclass

from inkstick.errors import UsageError
from inkstick.models.manifest import ModelFile, Repository

_SCHEMES = ("http", "https", "file")


@dataclass(frozen=True, slots=True)
class Mirror:
    """What ``--mirror`` says, one of:

    - ``https://host``: a mirror of the hub, with its paths (``NAME/resolve/REVISION/PATH``);
    - a URL with ``{name}``, ``{revision}``, ``{path}``, ``{to}`` or the name of another hub from the manifest
      (``{modelscope}``: the repository's name there), which are filled in;
    - ``file:///folder``: a folder that holds the files as a model's folder does.
    """

    url: str | None = None

    def address(self, repository: Repository, entry: ModelFile) -> str:
        """The URL of a file. Raises UsageError for a mirror that cannot be used."""
        template = self._template(repository)
        values = {
            "name": repository.name or "",
            "revision": entry.revision or repository.revision,
            "path": entry.path,
            "to": entry.to,
            **repository.mirrors,
        }
        wanted = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        if missing := sorted(wanted - set(values)):
            raise UsageError(
                f"The mirror asks for {', '.join(missing)}, which {repository.name} does not have.",
                hint=f"It may use: {', '.join(sorted(values))}.",
            )
        return template.format_map({key: urllib.parse.quote(value) for key, value in values.items()})

    def _template(self, repository: Repository) -> str:
        base = (self.url or repository.endpoint or "").rstrip("/")
        scheme = urllib.parse.urlsplit(base).scheme
        if scheme not in _SCHEMES:
            raise UsageError(f"The mirror {base!r} is not a URL.", hint="It starts with https://, http:// or file:///.")
        if "{" in base:
            return base
        return f"{base}/{{to}}" if scheme == "file" else f"{base}/{{name}}/resolve/{{revision}}/{{path}}"
