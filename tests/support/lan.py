"""An office served over TLS as other computers would reach it, and clients with and without a pairing."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from inkstick.access import moment
from inkstick.access.keys import Key
from inkstick.access.pin import PinFile
from inkstick.access.roles import Role
from inkstick.access.tokens import Tokens
from inkstick.clock import SystemClock
from inkstick.config import Settings
from support.office import MemoryOffice
from support.served import at_port


@dataclass
class Lan:
    """`address` ends with the port, without a slash."""

    office: MemoryOffice
    address: str
    state: Path

    @property
    def trust(self) -> ssl.SSLContext:
        """Trusts the appliance's certificate and nothing else."""
        return ssl.create_default_context(cafile=str(Key(self.state / "tls").certificate))

    def client(self, **options: object) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.address, verify=self.trust, timeout=60, **options)  # type: ignore[arg-type]

    def pin(self, role: Role) -> str:
        """As `inkstick pin new` makes it."""
        return PinFile(self.state).new(role, moment.now(SystemClock())).digits

    @contextlib.asynccontextmanager
    async def paired(self, role: Role, name: str = "a browser") -> AsyncIterator[httpx.AsyncClient]:
        async with self.client() as client:
            answer = await client.post("/pair", data={"pin": self.pin(role), "name": name, "back": "/"})
            assert answer.status_code == 303, answer.text
            yield client


def token(state: Path, role: Role) -> dict[str, str]:
    """The header of a token, made before the service starts."""
    state.mkdir(parents=True, exist_ok=True)
    return {"Authorization": f"Bearer {Tokens(state).make(role, role.word, '')[1]}"}


@contextlib.asynccontextmanager
async def lan(data: Path, host: str = "0.0.0.0", **settings: object) -> AsyncIterator[Lan]:
    """Bound to all addresses (so everybody is asked who they are), reached by the loopback one."""
    chosen = replace(Settings(data=data, host=host, port=0), **settings)  # type: ignore[arg-type]
    office = MemoryOffice(data, settings=chosen)
    async with at_port(office) as address:
        reached = "127.0.0.1" if host == "0.0.0.0" else host
        yield Lan(office, f"https://{reached}:{httpx.URL(address).port}", data / "state")
