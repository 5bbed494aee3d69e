"""What a figure depends on besides the code: the machine, the interpreter, the commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def machine(core: int | None) -> dict[str, object]:
    """Describe the machine; None stands for what cannot be found out here."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "core used": core,
        "architecture": platform.machine(),
        "virtual": _is_virtual(),
        "governor": _read(f"/sys/devices/system/cpu/cpu{core or 0}/cpufreq/scaling_governor"),
        "load average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
    }


def interpreter() -> dict[str, object]:
    """Describe the Python that everything runs with."""
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "flags": sysconfig.get_config_var("CFLAGS"),
        "free-threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "executable": sys.executable,
    }


def commit() -> dict[str, object]:
    """Name the commit that the checkout is at, and whether there is something else in its files."""
    head = _git("rev-parse", "HEAD")
    return {"commit": head, "changed": None if head is None else bool(_git("status", "--porcelain"))}


def one_line(described: dict[str, object], python: dict[str, object]) -> str:
    """Return what a reader of a table or a chart needs to know at least."""
    virtual = ", virtual" if described["virtual"] else ""
    return (
        f"{described['cpu'] or described['architecture']} ({described['cores']} cores{virtual}),"
        f" {described['system']} {described['kernel']}, {python['implementation']} {python['version']}"
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return None


def _cpu_model() -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return found[1] if found else platform.processor() or None


def _is_virtual() -> bool | None:
    info = _read("/proc/cpuinfo")
    return None if info is None else bool(re.search(r"^flags\s*:.*\bhypervisor\b", info, re.MULTILINE))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
