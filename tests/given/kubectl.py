"""A stand-in for kubectl, before one cluster of this machine: `port-forward` and `get secret`.

Takes from the environment where the dashboard listens (DASHBOARD_PORT), its token (TOKEN_FILE), and the file in which
to write what it was asked for (ASKED).
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import sys
import threading
from pathlib import Path


def forward(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until a side has heard enough."""
    with source, target, contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def main(arguments: list[str]) -> None:
    """Answer one call."""
    with Path(os.environ["ASKED"]).open("a") as asked:
        asked.write(re.sub(r"\d+:8265", "N:8265", " ".join(arguments)) + "\n")
    if "get" in arguments:
        print(base64.b64encode(Path(os.environ["TOKEN_FILE"]).read_bytes()).decode(), end="")
        return
    with socket.create_server(("127.0.0.1", int(arguments[-1].partition(":")[0]))) as listener:
        while True:
            client, _ = listener.accept()
            upstream = socket.create_connection(("127.0.0.1", int(os.environ["DASHBOARD_PORT"])))
            for pair in ((client, upstream), (upstream.dup(), client.dup())):
                threading.Thread(target=forward, args=pair, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
