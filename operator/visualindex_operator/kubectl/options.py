"""How commands name an index and find its cluster: the options of kubectl, under the names it gives them."""

from enum import StrEnum
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="Name of the VisualIndex.", show_default=False)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; default: that of the context.")
]
Context = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig; default: the current one.")
]


class Output(StrEnum):
    """What `-o` takes."""

    JSON = "json"
