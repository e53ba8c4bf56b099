"""Where a reader stands in the change log: a whole snapshot, because commit order is not the order of any number."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Token:
    """Names the transaction of one write; a search that carries it wants to see that write.

    `epoch` names the history of the database that `xid` (a 64-bit transaction id) belongs to.
    """

    epoch: int
    xid: int

    def __str__(self) -> str:
        return f"{self.epoch:x}.{self.xid:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token that `str` made `text` of; ValueError if it is none."""
        epoch, _, xid = text.partition(".")
        return cls(int(epoch, 16), int(xid, 16))


@dataclass(frozen=True, slots=True)
class Position:
    """The transactions whose changes were seen: all below `xmax` (64-bit ids), except `running`."""

    epoch: int
    xmin: int
    xmax: int
    running: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.epoch:x}/{self.snapshot}"

    @property
    def snapshot(self) -> str:
        """The position as Postgres writes a `pg_snapshot`: `xmin:xmax:xid,…`."""
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.running))}"

    @classmethod
    def of_snapshot(cls, epoch: int, snapshot: str) -> Self:
        """The position of a `pg_snapshot` taken in `epoch`."""
        xmin, xmax, running = snapshot.split(":")
        return cls(epoch, int(xmin), int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that `str` made `text` of; ValueError if it is none."""
        epoch, _, snapshot = text.partition("/")
        return cls.of_snapshot(int(epoch, 16), snapshot)

    def covers(self, token: Token) -> bool:
        """Whether the write of `token` was seen here.

        A restore begins a later epoch. What it kept of earlier epochs is seen by every reader of the later one, so an
        older token is covered; a newer one is not, until this reader has moved to its epoch.
        """
        if token.epoch != self.epoch:
            return token.epoch < self.epoch
        return token.xid < self.xmin or (token.xid < self.xmax and token.xid not in self.running)

    def includes(self, other: Self) -> bool:
        """Whether everything that was seen at `other` was seen here; a later epoch is a new history, and counts as such."""
        if self.epoch != other.epoch:
            return self.epoch > other.epoch
        unseen = [xid for xid in self.running if xid < other.xmax]
        return self.xmax >= other.xmax and set(unseen) <= set(other.running)

    def cut(self, xmax: int) -> Self:
        """The part of this position below `xmax`: what a reader has seen that stopped after transaction `xmax - 1`."""
        if xmax >= self.xmax:
            return self
        running = tuple(xid for xid in self.running if xid < xmax)
        return type(self)(self.epoch, min(self.xmin, xmax), xmax, running)
