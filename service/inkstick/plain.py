"""HTTP without TLS, as the parts of this machine speak it to each other."""

from __future__ import annotations

import ssl
from typing import Final

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For httpx's ``verify`` where no TLS is spoken: it trusts nobody. Left to itself httpx reads the certificates of all
authorities for each client, which takes longer than to connect."""
