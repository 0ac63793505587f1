from __future__ import annotations

from pathlib import Path

import pytest

from data.models.arithmetic import gains_by_bfloat16


@pytest.mark.parametrize(
    ("cpuinfo", "gains"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fma avx512f avx512_bf16 avx512_vnni\n", True),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fma avx512f avx512_bf16 avx512_fp16\n", False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx512_bf16 amx_bf16 amx_tile amx_int8\n", True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fma avx2\n", False),
    ],
)
def test_bfloat16_is_chosen_where_a_cpu_gains_by_it(tmp_path: Path, cpuinfo: str, gains: bool) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert gains_by_bfloat16(tmp_path / "cpuinfo") == gains


def test_a_system_that_does_not_say_gains_nothing(tmp_path: Path) -> None:
    assert not gains_by_bfloat16(tmp_path / "none")
