import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from hypothesis.extra.numpy import arrays as arrays_of

from storage import CorruptError, MissingError, Store, arrays_bytes, read_arrays

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "count": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "none": np.empty((0, 4), np.float16),
}


def test_read_arrays_returns_what_arrays_bytes_wrote(store):
    store.write_bytes("a.safetensors", arrays_bytes(ARRAYS))
    found = read_arrays(store, "a.safetensors")
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@given(st.sampled_from(["<f4", "<f8", "<i4", "u1", "?"]), st.data())
def test_read_arrays_of_any_shape_and_type_round_trips(kind, data):
    array = data.draw(arrays_of(kind, array_shapes(min_dims=0, min_side=0, max_side=4)))
    store = Store("memory://arrays")
    store.write_bytes("a.safetensors", arrays_bytes({"x": array}))
    np.testing.assert_array_equal(read_arrays(store, "a.safetensors")["x"], array, strict=True)


def test_arrays_bytes_do_not_depend_on_the_order_of_names():
    assert arrays_bytes(ARRAYS) == arrays_bytes(dict(reversed(ARRAYS.items())))


def test_arrays_bytes_of_objects_raises():
    with pytest.raises(ValueError, match=r"must hold numbers or booleans to be saved; got \{'x': 'object'\}"):
        arrays_bytes({"x": np.array([None])})


def test_read_arrays_absent_raises_missing(store):
    with pytest.raises(MissingError, match=r"a\.safetensors must be there"):
        read_arrays(store, "a.safetensors")


@pytest.mark.parametrize("cut", [0, 20, -1])
def test_read_arrays_cut_raises_corrupt(store, cut):
    store.write_bytes("a.safetensors", arrays_bytes(ARRAYS)[:cut])
    with pytest.raises(
        CorruptError, match=r"a\.safetensors must be a whole safetensors file .* run what writes it again"
    ):
        read_arrays(store, "a.safetensors")


def test_read_arrays_of_a_type_numpy_lacks_raises_corrupt(store):
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    store.write_bytes("a.safetensors", len(header).to_bytes(8, "little") + header + b"\x00\x00")
    with pytest.raises(CorruptError, match="BF16"):
        read_arrays(store, "a.safetensors")
