"""State dicts are read without torch, and nothing but state dicts."""

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from visualindex.encoders.lite0 import bundled_weights
from visualindex.encoders.torch_pickle import read_state_dict

MAGIC = 0x1950A86A20F9469CFC6C


@pytest.mark.torch
def test_reads_what_torch_reads() -> None:
    """Every tensor of the bundled file has torch's name, order and bits."""
    import torch

    expected = torch.load(bundled_weights(), weights_only=True)
    state = read_state_dict(bundled_weights())
    assert list(state) == list(expected)
    assert all(np.array_equal(state[name], tensor.numpy()) for name, tensor in expected.items())


@pytest.mark.torch
def test_reads_views_of_shared_storages(tmp_path: Path) -> None:
    """Transposed and offset tensors come out as torch shows them."""
    import torch

    whole = torch.arange(24, dtype=torch.float32).view(4, 6)
    state = {"turned": whole.t(), "part": whole[1:3, 2:], "half": whole.half(), "count": torch.tensor(3)}
    path = tmp_path / "views.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    read = read_state_dict(path)
    assert all(np.array_equal(read[name], tensor.numpy()) for name, tensor in state.items())


class _Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code ran",)


def test_refuses_to_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle that calls a function is refused before the call."""
    path = tmp_path / "hostile.pth"
    path.write_bytes(b"".join(pickle.dumps(part) for part in (MAGIC, 1001, {}, {"weight": _Hostile()})))
    with pytest.raises(ValueError, match=r"builtins\.print has no place in a state dict"):
        read_state_dict(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("length", [0, 5, 40, 5_000, 1_000_000])
def test_names_a_file_that_is_cut_short(tmp_path: Path, length: int) -> None:
    """A damaged file is refused by name at whatever point it ends."""
    path = tmp_path / "short.pth"
    path.write_bytes(bundled_weights().read_bytes()[:length])
    with pytest.raises(ValueError, match=r"short\.pth"):
        read_state_dict(path)


@pytest.mark.torch
def test_refuses_a_tensor_that_reaches_outside_its_storage(tmp_path: Path) -> None:
    """A shrunken storage must not let a tensor show foreign memory."""
    import torch

    path = tmp_path / "outside.pth"
    torch.save({"weight": torch.arange(8.0)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    at = data.rindex(struct.pack("<q", 8))
    path.write_bytes(data[:at] + struct.pack("<q", 2) + data[at + 8 : at + 16])
    with pytest.raises(ValueError, match=r"outside\.pth"):
        read_state_dict(path)


def test_refuses_arbitrary_bytes(tmp_path: Path) -> None:
    """A picture given as weights is refused, not half-read."""
    path = tmp_path / "picture.pth"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + io.BytesIO(b"\0" * 100).getvalue())
    with pytest.raises(ValueError, match="not a legacy torch state dict"):
        read_state_dict(path)
