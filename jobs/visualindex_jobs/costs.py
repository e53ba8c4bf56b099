"""What a job cost, by the prices in the spec."""

from visualindex.reindexing import Account
from visualindex.spec.models import PricesSpec

_HOUR_S = 3600.0
_GIB = 1024**3


def costs(prices: PricesSpec, account: Account, generation_bytes: int) -> dict[str, float]:
    """`compute` once, and `storage_month` for each month in which the generation is kept, in the prices' currency."""
    compute = (account.cpu_s * prices.cpu_hour + account.gpu_s * prices.gpu_hour) / _HOUR_S
    return {
        "compute": round(compute, 6),
        "storage_month": round(generation_bytes / _GIB * prices.gib_month, 6),
    }
