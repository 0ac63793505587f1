from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from data.errors import InputError
from data.models.weights import INDEX_FILE, SINGLE_FILE, RowSource, read_header, to_bfloat16, write_weights


def _source(name: str, values: np.ndarray) -> RowSource:
    return RowSource(name, values.shape, lambda first, last: values[first:last])


def _from_bfloat16(halves: np.ndarray) -> np.ndarray:
    return (halves.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1.0, 1.0),
        (1.0 + 2**-8, 1.0),  # a tie goes to the even neighbour, here down
        (1.0 + 3 * 2**-8, 1.0 + 2**-6),  # and here up
        (1.0 + 2**-8 + 2**-20, 1.0 + 2**-7),
        (-(1.0 + 3 * 2**-8), -(1.0 + 2**-6)),
        (0.0, 0.0),
        (2.0**-133, 2.0**-133),  # subnormal
    ],
)
def test_rounds_to_nearest_with_ties_to_even(value: float, rounded: float) -> None:
    assert _from_bfloat16(to_bfloat16(np.array([value], np.float32)))[0] == rounded


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126))
def test_no_other_bf16_is_nearer(value: float) -> None:
    half = int(to_bfloat16(np.array([value], np.float32))[0])
    distances = [
        abs(float(_from_bfloat16(np.array([near], np.uint16))[0]) - value)
        for near in (half - 1, half, half + 1)
        if 0 <= near <= 0xFFFF
    ]
    assert abs(float(_from_bfloat16(np.array([half], np.uint16))[0]) - value) == min(
        d for d in distances if math.isfinite(d)
    )


def test_large_and_small_tensors_come_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {
        "large": random.standard_normal((5000, 96)).astype(np.float32),
        "vector": random.standard_normal(7).astype(np.float32),
    }
    told: list[int] = []
    total = write_weights(tmp_path, [_source(n, v) for n, v in tensors.items()], told.append)
    assert total == sum(told) == 5000 * 96 + 7
    with safe_open(tmp_path / SINGLE_FILE, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        for name, values in tensors.items():
            expected = _from_bfloat16(to_bfloat16(values))
            np.testing.assert_array_equal(file.get_tensor(name).float().numpy(), expected)


def test_shards_stay_below_the_limit_and_are_indexed(tmp_path: Path) -> None:
    tensors = [_source(f"t{i}", np.full((10, 10), i, np.float32)) for i in range(5)]
    write_weights(tmp_path, tensors, max_shard_bytes=450)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["metadata"] == {"total_size": 1000}
    assert index["weight_map"] == {
        "t0": "model-00001-of-00003.safetensors",
        "t1": "model-00001-of-00003.safetensors",
        "t2": "model-00002-of-00003.safetensors",
        "t3": "model-00002-of-00003.safetensors",
        "t4": "model-00003-of-00003.safetensors",
    }
    for name, file_name in index["weight_map"].items():
        with safe_open(tmp_path / file_name, "pt") as file:
            assert file.get_tensor(name)[0, 0] == int(name[1])


def test_refuses_a_value_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tensor 'bad' holds a value that is not a finite number"):
        write_weights(tmp_path, [_source("bad", np.array([[1.0, np.nan]], np.float32))])


def test_header_of_a_file_cut_short(tmp_path: Path) -> None:
    write_weights(tmp_path, [_source("t", np.ones((4, 4), np.float32))])
    path = tmp_path / SINGLE_FILE
    assert read_header(path)["t"]["shape"] == [4, 4]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="cut short"):
        read_header(path)


@pytest.mark.parametrize(
    "content", [b"", b"version https", b"\x05\0\0\0\0\0\0\0hello", b"\x02\0\0\0\0\0\0\0[]"]
)
def test_header_of_what_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a safetensors file"):
        read_header(path)
