"""What can keep us from having our applications on a Ray cluster that others run. The messages become conditions."""


class ClusterUnreachable(Exception):  # noqa: N818 (the word of the condition's reason)
    """The cluster does not answer, or not with an answer: trying again later may help."""


class ClusterFailed(ClusterUnreachable):
    """The cluster answers, and cannot do now what it is asked: a moment later it often can."""


class ClusterRefused(Exception):  # noqa: N818 (the word of the condition's reason)
    """The cluster answers and says no: somebody has to change something first."""


class NotRestatable(ClusterRefused):
    """A foreign application whose configuration Ray does not tell: any write would delete it."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(
            f"Nothing was written to the cluster, because that would end the application {name}, which is not ours: "
            f"{cause}. Deploy {name} again, or delete it."
        )
        self.name = name


class NameTaken(Exception):  # noqa: N818 (the word of the condition's reason)
    """An application name or route prefix that we need belongs to somebody else."""

    def __init__(self, name: str, owner: str) -> None:
        kind = "route prefix" if name.startswith("/") else "application name"
        super().__init__(
            f"The {kind} {name} is taken on this cluster by {owner}: delete that application, or give this index "
            "another name or cluster."
        )
        self.name = name
        self.owner = owner
