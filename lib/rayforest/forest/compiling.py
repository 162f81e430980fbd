"""The compiled kernel: from the cache on disk, or compiled, which takes seconds once on a machine.

Numba takes longer to import than many a table takes to score, so it only compiles. What is kept is machine code, an
object file that needs nothing of Numba or Python, and LLVM alone loads it. To its caller the kernel is a function of C,
so a call releases the GIL.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding as llvm

from rayforest.forest.code_cache import cache_folder, find, keep

Kernel = Callable[[int, int, int, int, int, int, int], None]
"""See `kernel.define`."""

_SOURCES = ("kernel.py", "lanes.py", "addresses.py", "layout.py", "pack.py", "binning.py")
"""Whatever is compiled into the kernel."""
_NAME = "rayforest_kernel"

_log = logging.getLogger("rayforest.forest")
_lock = threading.Lock()


def kernel_for(real: np.dtype[Any]) -> Kernel:
    """The kernel for weights and sums of this type, float32 or float64; logs a line when it has to be compiled."""
    with _lock:
        return _kernel(real.name)


@lru_cache
def _kernel(real: str) -> Kernel:
    folder, name = cache_folder(), f"{real}-{_key(real)}.o"
    code = find(folder, name)
    if code is None:
        _log.info("compiling the tree kernel for this CPU; it is kept for later processes")
        began = time.monotonic()
        code = _compile(real)
        _log.info("compiled the tree kernel in %.1f s", time.monotonic() - began)
        try:
            keep(folder, name, code)
        except OSError as error:
            _log.warning("the compiled tree kernel cannot be kept in %s: %s", folder, error.strerror)
    return _load(code)


def _key(real: str) -> str:
    """Changes with whatever changes the machine code."""
    digest = hashlib.sha256()
    for part in (real, llvmlite.__version__, llvm.get_process_triple(), *_cpu()):
        digest.update(part.encode() + b"\0")
    numba = find_spec("numba")  # looks for it without importing it; so does importlib.metadata, but slowly
    if numba is not None and numba.origin is not None:
        digest.update(Path(numba.origin).with_name("_version.py").read_bytes())
    for source in _SOURCES:
        digest.update(Path(__file__).with_name(source).read_bytes())
    return digest.hexdigest()


def _cpu() -> tuple[str, str]:
    """Name and features of the CPU to compile for: this one, or what Numba's variables say."""
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else llvm.get_host_cpu_features().flatten()
    return name, features


def _machine() -> Any:
    """LLVM's target machine, set as Numba sets it for code that runs where it is made."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    name, features = _cpu()
    relocation = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(name, features, 3, relocation, "jitdefault", jit=True)


def _compile(real: str) -> bytes:
    from rayforest.forest.kernel import define

    (text,) = define(real).inspect_llvm().values()
    module = llvm.parse_assembly(text)
    (function,) = (f for f in module.functions if not f.is_declaration and f.linkage is llvm.Linkage.external)
    function.name = _NAME
    code: bytes = _machine().emit_object(module)
    return code


def _load(code: bytes) -> Kernel:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    # Numba's functions take two addresses more, for a result and for an error. There are neither; but it writes nulls.
    nulls = ctypes.create_string_buffer(16)
    at = ctypes.addressof(nulls)
    # c_void_p for each, though one is a count: ctypes takes half the time that it takes for c_int64.
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 9)(engine.get_function_address(_NAME))
    kernel = partial(function, at, at + 8)
    kernel.keeps_alive = engine, nulls  # type: ignore[attr-defined]
    return kernel
