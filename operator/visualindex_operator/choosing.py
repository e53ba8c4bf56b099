"""Which credentials an index is served with: new ones only once they were seen to work, and may be used."""

from visualindex.credentials import Credentials
from visualindex.planning.plan import Served
from visualindex_operator.homes import Seen


def chosen(one: Served, seen: Seen) -> Credentials | None:
    """Those just checked where they may replace the ones in use, else the ones in use.

    None where neither are known: the index is then left as it is deployed, because without credentials it would end.
    """
    fresh, kept = seen.fresh.get(one.name), seen.standing.kept.get(one.name)
    return (fresh if one.renewed else kept) or fresh or kept
