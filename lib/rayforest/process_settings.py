"""How many threads the native libraries take in each process of ours, and what memory they keep: said here, and why.

What computes at once, before any library adds threads of its own:

    driver, or a script that calls rayforest    run.workers threads (by default a thread a usable CPU), one shard each
    worker of a Ray task                        one shard; Ray counts one CPU for it
    Ray actor that trains                       a thread a CPU of its node, one trial each

So the CPUs are taken by shards and trials, and one shard is read, computed and scored on one thread. Left as they are,
for what they cost is little beside that or is wanted: Polars' one pool of the driver, which its threads share, and
LightGBM's threads where the driver itself bins or predicts with nothing else to do.

The tree kernel starts no threads, and takes no setting.
"""

from __future__ import annotations

import os

KEPT_MEMORY = {"MIMALLOC_PURGE_DELAY": "-1"}
"""Environment of the command line, of a Ray that we start and so of its workers, which do nothing but our work; not of
a script that imports rayforest. Arrow's allocator reads it when it is loaded. What a batch gave back is kept for the
next one. By default it goes back to the system after a moment, which zeroes each page again: a fifth of the time where
row groups are large."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",  # LightGBM and scikit-learn; Ray sets the same for a task of one CPU
    "POLARS_MAX_THREADS": "1",
}
"""Environment of a process that has one CPU for its own. Each library reads it when it is loaded. Otherwise each of a
node's workers would start a thread for each CPU of the node, all of which compete for the one."""

ARROW_THREADS = False
"""`use_threads` of Arrow's readers: a shard has one CPU, and Arrow's pool would take those of the other shards."""

ONNXRUNTIME_THREADS = 1
"""With more, onnxruntime splits the trees among them and adds in another order: other bits."""

LIGHTGBM_PROOF_THREADS = 1
"""Of what is computed only to compare or to try: some rows through a finished model, rounds on a handful of rows.
They would not pay for starting threads."""


def keep_memory() -> None:
    """Let this process keep Arrow's free memory, unless its user says otherwise. Call it before Arrow is loaded."""
    os.environ.update(KEPT_MEMORY | os.environ)


def take_one_thread() -> None:
    """Make this process one that has one CPU for its own, unless its user says otherwise; no library but Arrow may be
    loaded yet.
    """
    import pyarrow as pa

    os.environ.update(ONE_THREAD | os.environ)
    pa.set_cpu_count(1)


def usable_cpus() -> int:
    """CPUs that this process may use, which in a container or under `taskset` are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def trial_threads(workers: int, trials_at_once: int) -> int:
    """LightGBM's threads for one trial: its share of the workers. The trees do not depend on it (`SHARED_PARAMS`)."""
    return max(1, workers // trials_at_once)
