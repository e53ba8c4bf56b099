"""Finds out, in a process of its own, how a job that begins is to encode."""

import asyncio
import os
from pathlib import Path
from typing import Any

from visualindex import credentials
from visualindex.reindexing import Recipe
from visualindex.spec import VisualIndex
from visualindex_jobs.encoder_tools import EncoderTools
from visualindex_jobs.reindex_here import chosen


def measure(document: dict[str, Any], threads: int) -> Recipe:
    """The recipe of a job on machines like this one, with so many threads for an encoder. Blocks."""
    resource = VisualIndex.model_validate(document)
    access = asyncio.run(credentials.from_environment())
    state = Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex"))
    tools = EncoderTools.open(resource, state / "cache", access, threads)
    try:
        return chosen(resource.spec, tools)
    finally:
        tools.encoder.close()
