"""A server that answers ListObjectsV2 for objects that are made up page by page: so many that none could be stored.

    python listing_server.py COUNT

Keys are data/year=2000/part-000000.parquet and so on, in ten years. Prints its address, and serves until it is ended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
_HEAD = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'


def keys(count: int, behind: str) -> Iterator[str]:
    """Those behind a key or another text, in the order of their bytes."""
    first = int(behind.removesuffix(".parquet")[-6:]) + 1 if behind.endswith(".parquet") else 0
    found = (f"data/year={2000 + number * 10 // count}/part-{number:06d}.parquet" for number in range(first, count))
    return (key for key in found if key > behind)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        behind = asked.get("continuation-token") or asked.get("start-after") or ""
        prefix = asked.get("prefix", "")
        found = [*islice((key for key in keys(self.count, behind) if key.startswith(prefix)), PAGE + 1)]
        more = len(found) > PAGE
        objects = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(key)}</Size><ETag>&quot;{number:032x}&quot;</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for number, key in enumerate(found[:PAGE])
        )
        token = f"<NextContinuationToken>{found[PAGE - 1]}</NextContinuationToken>" if more else ""
        text = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{objects}</ListBucketResult>"
        self._answer(200, (_HEAD + text).encode())

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    _Handler.count = int(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
