"""HTTP without TLS, as the parts of this machine speak it to each other."""

from __future__ import annotations

import importlib.util
import ssl
import sys
from typing import Final

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For httpx's ``verify`` where no TLS is spoken: it trusts nobody. Left to itself httpx reads the certificates of all
authorities for each client, which takes longer than to connect."""

# httpcore tries to import sniffio with every request and is content without it; Python would search its whole path for
# it each time. None: as if it had just been looked for.
if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]
