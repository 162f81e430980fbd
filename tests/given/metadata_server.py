"""What hands out credentials on machines of the providers, on the loopback: container, instance, token services."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class MetadataServer:
    """Answers as AWS, Google and Azure do, with the credentials that it holds at the moment."""

    access_key: str
    secret_key: str
    lifetime_s: float = 3600
    refuses: bool = False
    """Whether it knows of no credentials."""
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Methods and paths, without queries."""

    def answer(self, method: str, path: str) -> str:
        """The body of an answer."""
        place = path.partition("?")[0]
        self.asked.append(f"{method} {place}")
        if place == "/latest/api/token":
            return "a token for the next request"
        if place.endswith("/security-credentials/"):
            return "role"
        if place in ("/container", "/latest/meta-data/iam/security-credentials/role"):
            ends = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
            keys = {"AccessKeyId": self.access_key, "SecretAccessKey": self.secret_key, "Token": ""}
            return json.dumps(keys | {"Code": "Success", "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
        ends_at = str(int(time.time() + self.lifetime_s))
        token = {"access_token": self.secret_key, "token_type": "Bearer", "expires_on": ends_at}
        return json.dumps(token | {"expires_in": int(self.lifetime_s), "resource": "storage"})


@contextmanager
def metadata_server(access_key: str, secret_key: str) -> Iterator[MetadataServer]:
    """On a free port for as long as the block."""
    server = MetadataServer(access_key, secret_key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = server.answer(self.command, self.path).encode()
            self.send_response(404 if server.refuses and self.command == "GET" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
