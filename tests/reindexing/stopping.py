"""`python -m visualindex_jobs` that stops itself (SIGSTOP) right before a commit, as a process that its node froze there.

`python -m tests.reindexing.stopping COMMIT ARGUMENTS…`: the name of a method of the catalog, then those of the command.
What came of that commit when the process went on is told on stderr.
"""

import logging
import os
import signal
import sys
from typing import Any

from visualindex.catalog import Catalog
from visualindex.errors import ProblemError
from visualindex_jobs.__main__ import main

logger = logging.getLogger("stopping")
REFUSED, COMMITTED = "late commit refused", "late commit went through"


def stop_before(commit: str) -> None:
    original = getattr(Catalog, commit)

    async def stopping(self: Catalog, *arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            done = await original(self, *arguments, **named)
        except ProblemError as problem:
            logger.info("%s: %s", REFUSED, problem.detail)
            raise
        finally:
            setattr(Catalog, commit, original)
        # The end of a job is not refused with a problem: False says that it is another's.
        logger.info(REFUSED if done is False else COMMITTED)
        return done

    setattr(Catalog, commit, stopping)


if __name__ == "__main__":
    stop_before(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
