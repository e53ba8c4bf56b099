"""Reads a legacy `torch.save` state dict without torch, so that the bundled encoder needs no torch installed.

The format is a run of pickles (magic number, protocol, system facts, the object, the storage keys) followed by the
raw bytes of each storage. Only the handful of names a state dict needs may be looked up; anything else is refused,
so a hostile file cannot run code.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _Storage:
    """A promise of the flat data that follows the pickles under `key`."""

    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _View:
    """A tensor's window on a storage; offsets and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def on(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        reach = (
            self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)) + 1
        )
        if 0 not in self.shape and (reach > flat.size or min((self.offset, *self.strides)) < 0):
            raise ValueError("a tensor reaches outside its storage: the file is damaged")
        strides = [step * flat.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()


class _StateDictUnpickler(pickle.Unpickler):
    """Finds nothing but what a dictionary of tensors is made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(
            f"{module}.{name} has no place in a state dict: refusing to load the file"
        )

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("the file refers to something that is no tensor storage")
        return _Storage(str(key), dtype)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _View:
    return _View(storage, int(offset), tuple(shape), tuple(strides))


def read_state_dict(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a legacy `.pth` state dict by name, in file order.

    Raises ValueError when the file is not such a state dict.
    """
    with path.open("rb") as file:
        try:
            return _read(file)
        except Exception as e:  # a damaged pickle can raise nearly anything
            raise ValueError(
                f"{path} is not a legacy torch state dict ({e}): give the file as published"
            ) from e


def _read(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    load: Callable[[], Any] = lambda: _StateDictUnpickler(file).load()  # noqa: E731 - a local shorthand
    if load() != _MAGIC or load() != _PROTOCOL:
        raise pickle.UnpicklingError("wrong magic number or protocol")
    load()
    views: dict[str, _View] = load()
    dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in load()}
    return {name: view.on(storages[view.storage.key]) for name, view in views.items()}


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise pickle.UnpicklingError("a storage is cut short")
    return np.frombuffer(data, dtype)
