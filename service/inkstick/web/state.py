"""What an application works on, and how its routes come to it.

The routes are made once in a process, where they stand. What differs from one application to another, above all its
office, `create_app` keeps in the application's state; a route names what it needs of it as a parameter.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.templating import Jinja2Templates

from inkstick.access.reception import Reception
from inkstick.web.office_port import OfficePort
from inkstick.web.shelf import Shelf


def kept(name: str) -> Any:
    """The default of a parameter: what the application keeps in its state under this name."""

    async def found(request: Request) -> Any:  # a plain function would be called in a thread
        return getattr(request.app.state, name)

    return Depends(found)


Office = Annotated[OfficePort, kept("office")]
People = Annotated[Reception, kept("reception")]
Answers = Annotated[Shelf, kept("shelf")]
Templates = Annotated[Jinja2Templates, kept("templates")]
