"""The efforts that tuning tries, from the cheapest to the dearest by the bytes a search reads."""

from visualindex.ann.families.base import TUNED_HITS, Effort, Parameters
from visualindex.capacity.sizes import lists_of, row_bytes

_EF = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_NPROBE = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
_RESCORE = {"ivf-sq8": (2,), "ivf-pq": (2, 4, 8), "rabitq": (4, 8, 16)}
_SCATTERED = 4
"""How many bytes in a row are read in the time of one in a row of a list, where each row lies elsewhere."""


def ladder(family: str, rows: int, dimension: int, parameters: Parameters) -> list[Effort]:
    """Efforts worth measuring for an index of `rows` rows; at least one."""
    if family in _RESCORE:
        return _of_lists(family, rows, dimension, parameters)
    rescore = 1 if family == "hnsw-fp16" else 2
    longest = max(_EF[0], rows)
    return [Effort(ef_search=ef, rescore=rescore) for ef in _EF if ef <= longest]


def _of_lists(family: str, rows: int, dimension: int, parameters: Parameters) -> list[Effort]:
    lists = lists_of(rows, parameters)
    read = row_bytes(family, dimension, parameters) * rows / lists
    scored = 2 * dimension * TUNED_HITS * _SCATTERED
    probes = [nprobe for nprobe in _NPROBE if nprobe < lists] + ([lists] if lists <= _NPROBE[-1] else [])
    efforts = [Effort(nprobe=nprobe, rescore=rescore) for nprobe in probes for rescore in _RESCORE[family]]
    return sorted(efforts, key=lambda effort: (effort.nprobe or 0) * read + effort.rescore * scored)
