"""Which number format a CPU multiplies matrices faster in."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def gains_by_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Tell whether this CPU multiplies matrices faster in bfloat16 than in float32; False where it does not say.

    Emulating it is slower. So are Intel's vector instructions for it, where the matrix unit (AMX) is absent or hidden:
    170 GFLOP/s against 300 on two cores of such a Xeon. AMD's are faster than float32.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in text or ("avx512_bf16" in text and "AuthenticAMD" in text)
