"""Run a command that ends when its standard input does, however the process that started it ended.

As a script: `held_process.py COMMAND ARGUMENT...`.
"""

from __future__ import annotations

import subprocess
import sys
import threading


def main() -> int:
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def end() -> None:
        sys.stdin.buffer.read()
        server.kill()

    threading.Thread(target=end, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
