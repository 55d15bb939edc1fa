"""An example for each address of the API, for the page at /docs. A test runs them all, in this order, in one shell."""

from __future__ import annotations

from collections.abc import Mapping

PREAMBLE = """\
BASE=http://127.0.0.1:8080
field() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }"""
"""Said once before the examples: the address, and a helper that takes a value out of an answer."""

PAIRED = """
# certificate.pem: a copy of state/tls/certificate.pem of the machine; TOKEN: made on the page People and browsers
curl() { command curl --cacert certificate.pem -H "Authorization: Bearer $TOKEN" "$@"; }"""
"""Said too where the service is reached over the network: it trusts nobody, and nobody vouches for it."""

EXAMPLES: Mapping[tuple[str, str], str] = {
    ("get", "/healthz"): 'curl -sS "$BASE/healthz"',
    ("get", "/readyz"): 'curl -sS "$BASE/readyz"',
    ("get", "/metrics"): 'curl -sS "$BASE/metrics"',
    ("get", "/api/v1/status"): 'curl -sS "$BASE/api/v1/status"',
    ("put", "/api/v1/documents/{name}"): """\
ID=$(curl -sS -T report.pdf "$BASE/api/v1/documents/report.pdf?formats=md,pdf" \\
     -H "X-Content-SHA256: $(sha256sum report.pdf | cut -d' ' -f1)" | field "['id']")""",
    ("post", "/api/v1/documents"): 'curl -sS "$BASE/api/v1/documents" -F task=text -F file=@report.pdf',
    ("get", "/api/v1/documents"): 'curl -sS "$BASE/api/v1/documents?q=report&state=done&limit=50"',
    ("get", "/api/v1/documents/{id}"): """\
until curl -sS "$BASE/api/v1/documents/$ID" | grep -qE '"state":"(done|partial|failed)"'; do sleep 0.2; done""",
    ("get", "/api/v1/documents/{id}/pages"): 'curl -sS "$BASE/api/v1/documents/$ID/pages?limit=100"',
    ("get", "/api/v1/documents/{id}/results/{format}"): (
        'curl -sS -o report.md "$BASE/api/v1/documents/$ID/results/md"'
    ),
    ("get", "/api/v1/documents/{id}/pages/{n}/image"): (
        'curl -sS -o page1.png "$BASE/api/v1/documents/$ID/pages/1/image?max_side=1200"'
    ),
    ("get", "/api/v1/documents/{id}/pages/{n}"): 'curl -sS "$BASE/api/v1/documents/$ID/pages/1"',
    ("patch", "/api/v1/documents/{id}/pages/{n}"): """\
curl -sS -X PATCH "$BASE/api/v1/documents/$ID/pages/1" -H "Content-Type: application/json" \\
     -d '{"version": 0, "changes": [{"block": 1, "text": "as it is printed"}]}'""",
    ("get", "/api/v1/documents/{id}/pages/{n}/versions"): ('curl -sS "$BASE/api/v1/documents/$ID/pages/1/versions"'),
    ("get", "/api/v1/documents/{id}/pages/{n}/versions/{version}"): (
        'curl -sS "$BASE/api/v1/documents/$ID/pages/1/versions/0"'
    ),
    ("post", "/api/v1/documents/{id}/pages/{n}/restore"): """\
curl -sS "$BASE/api/v1/documents/$ID/pages/1/restore" -H "Content-Type: application/json" \\
     -d '{"version": 1, "to": 0}'""",
    ("post", "/api/v1/documents/{id}/pages/{n}/reread"): """\
READING=$(curl -sS "$BASE/api/v1/documents/$ID/pages/1/reread" -H "Content-Type: application/json" \\
     -d '{"task": "text"}' | field "['reading']")""",
    ("post", "/api/v1/documents/{id}/pages/{n}/readings/{key}/accept"): """\
curl -sS "$BASE/api/v1/documents/$ID/pages/1/readings/$READING/accept" -H "Content-Type: application/json" \\
     -d '{"version": 2}'""",
    ("post", "/api/v1/documents/{id}/retry"): (
        'curl -sS -X POST "$BASE/api/v1/documents/$ID/retry"  # 409 unless it failed or is partial'
    ),
    ("get", "/api/v1/search"): 'curl -sS "$BASE/api/v1/search?q=invoice&limit=20"',
    ("get", "/api/v1/events"): (
        'curl -sSN --max-time 1 -H "Last-Event-ID: 0" "$BASE/api/v1/events" || test $? = 28  # --max-time: or for ever'
    ),
    ("get", "/v1/models"): 'curl -sS "$BASE/v1/models"',
    ("post", "/v1/chat/completions"): """\
printf '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "%s"}}]}]}' \\
    "data:image/png;base64,$(base64 -w0 page.png)" |
  curl -sS "$BASE/v1/chat/completions" -H "Content-Type: application/json" -d @-""",
    ("post", "/v1/models/{id}/inference"): (
        'curl -sS "$BASE/v1/models/inkstick/inference" -F task=text -F file=@page.png'
    ),
}
