"""What inverted lists that were read from a file say of themselves, held against what they must be.

A checksum tells damage on the way, not a file that was wrong when it was written. Faiss hands out the row numbers of its
lists as they are, and believes the sizes and kinds of its codes: what is outside of the segment is memory of others.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import faiss
import numpy as np

_faiss: Any = faiss  # its stubs do not know all of its functions

Field: TypeAlias = tuple[str, Any, Any]
"""A field's name, what it is and what it must be."""

_KIND = (
    "d",
    "metric_type",
    "code_size",
    "by_residual",
    "nbits",
    "M",
    "M2",
    "ksub",
    "bbs",
    "implem",
    "qbs",
    "qb",
)
_CODES = ("d", "qtype", "rangestat", "code_size", "M", "nbits", "ksub", "dsub", "nb_bits")
_INVERTED = ("code_size", "n_per_block", "block_size")


def fault(index: Any, expected: Any, rows: int) -> str | None:
    """What is wrong with Faiss's `index` over the lists of `rows` rows, naming the field; None when nothing is.

    `expected` is an empty index as it is built for them. Every row must stand in one list, once: a pass over 8 bytes a row.
    """
    for name, found, wanted in _fields(index, expected):
        if found != wanted:
            return f"its {name} is {found} instead of {wanted}"
    return _misplaced(_lists(index), rows)


def _fields(index: Any, expected: Any) -> Iterator[Field]:
    """From the outside to the inside: what is further in is not looked at before what is around it was found right."""
    if hasattr(expected, "chain"):
        yield "chain", index.chain.size(), 1
        rotation, wanted = (_faiss.downcast_VectorTransform(one.chain.at(0)) for one in (index, expected))
        yield "chain.0", _kind(rotation), _kind(wanted)
        yield from _alike("chain.0.", rotation, wanted, ("d_in", "d_out", "have_bias"))
        yield "chain.0.A", rotation.A.size(), expected.d**2
        yield "index", _kind(_lists(index)), _kind(_lists(expected))
    lists, wanted = _lists(index), _lists(expected)
    yield from _alike("", lists, wanted, _KIND)
    for part in ("sq", "pq", "rabitq"):
        if hasattr(wanted, part):
            yield from _alike(f"{part}.", getattr(lists, part), getattr(wanted, part), _CODES)
    if hasattr(wanted, "sq"):
        yield "sq.trained", lists.sq.trained.size(), 2 * wanted.d
    if hasattr(wanted, "pq"):
        yield "pq.centroids", lists.pq.centroids.size(), wanted.pq.centroids.size()
    yield from _centroids(lists, wanted)
    yield from _alike("invlists.", _inverted(lists), _inverted(wanted), _INVERTED)
    yield "invlists.nlist", lists.invlists.nlist, lists.nlist


def _centroids(lists: Any, expected: Any) -> Iterator[Field]:
    quantizer, wanted = (_faiss.downcast_index(one.quantizer) for one in (lists, expected))
    yield "quantizer", _kind(quantizer), _kind(wanted)
    yield from _alike("quantizer.", quantizer, wanted, ("d", "metric_type", "code_size"))
    yield "quantizer.ntotal", quantizer.ntotal, lists.nlist
    yield "quantizer.codes", quantizer.codes.size(), lists.nlist * wanted.code_size


def _alike(prefix: str, found: Any, wanted: Any, names: tuple[str, ...]) -> Iterator[Field]:
    for name in names:
        if hasattr(wanted, name):
            yield prefix + name, getattr(found, name), getattr(wanted, name)


def _misplaced(lists: Any, rows: int) -> str | None:
    inverted = lists.invlists
    sizes = [inverted.list_size(number) for number in range(lists.nlist)]
    if sum(sizes) != rows:
        return f"its invlists.sizes come to {sum(sizes)} instead of {rows}"
    seen = np.zeros(rows, np.bool_)
    for number in np.flatnonzero(sizes).tolist():
        ids = faiss.rev_swig_ptr(inverted.get_ids(number), sizes[number])
        if int(ids.min()) < 0 or int(ids.max()) >= rows:
            return f"its invlists.ids.{number} name rows outside of 0 … {rows - 1}"
        seen[ids] = True
    return (
        None if seen.all() else f"its invlists.ids name row {int(np.argmin(seen))} nowhere, and another twice"
    )


def _lists(index: Any) -> Any:
    """The part that holds the lists. Faiss hands out the parts of a compound index as what they have in common."""
    return faiss.downcast_index(index.index) if hasattr(index, "chain") else index


def _inverted(lists: Any) -> Any:
    return _faiss.downcast_InvertedLists(lists.invlists)


def _kind(found: Any) -> str:
    return type(found).__name__
