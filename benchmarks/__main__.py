"""Run the benchmarks one after the other, each in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
NOT_A_QUESTION = {"__init__", "__main__", "before_after", "harness", "plot", "score_profile"}


def main() -> int:
    """Exit code 1 if one of them failed."""
    questions = sorted(f.stem for f in FOLDER.glob("*.py") if f.stem not in NOT_A_QUESTION)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(questions)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs and agrees, not how fast")
    options = parser.parse_args()
    if unknown := set(options.names) - set(questions):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    failed = []
    for name in options.names or questions:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if options.quick else [])]
        if subprocess.run(command, cwd=FOLDER.parent, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
