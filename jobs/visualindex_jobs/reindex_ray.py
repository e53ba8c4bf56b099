"""Chunks made by processes of a Ray cluster: Ray Data streams their numbers through, and starts lost processes again."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import ray

from visualindex.errors import ProblemError, ProblemType
from visualindex.reindexing import Plan, Recipe
from visualindex.spec import VisualIndex
from visualindex_jobs.reindex_measuring import measure
from visualindex_jobs.reindex_workers import AT_ONCE, Decoder, Encoder, Maker, Setup

_WAVE = 1_000
"""Chunks of one dataset: Ray keeps a few hundred bytes for each."""
_BESIDE_CPUS = 0.1
"""Logical CPUs of a process beside a service, whose replicas hold nearly all: the kernel gives it what they leave."""


@dataclass(frozen=True)
class Places:
    """What processes reserve of Ray."""

    encoder_cpus: float
    decoder_cpus: float
    gpus: float
    threads: int
    """Threads of an encoder."""

    @classmethod
    def of(cls, resource: VisualIndex, cores: int, *, beside: bool) -> "Places":
        """Beside a service next to nothing; on a cluster of the job's own what they keep busy."""
        spec = resource.spec
        decoding = float(spec.reindex.decode_workers)
        if spec.reindex.cpus is not None:
            encoder = decoder = spec.reindex.cpus
        elif beside:
            encoder = decoder = _BESIDE_CPUS
        else:
            encoder, decoder = 1.0 + (0.0 if spec.reindex.decoders else decoding), decoding
        threads = max(1, cores // spec.reindex.workers) if beside else max(1, int(encoder))
        return cls(encoder, decoder, spec.encoder.num_gpus, threads)


class OnRay:
    """A conveyor of as many processes as the spec says."""

    def __init__(self, resource: VisualIndex, job_id: str, places: Places, *, beside: bool) -> None:
        self._resource = resource
        self._job_id = job_id
        self._places = places
        self._beside = beside

    async def choose(self) -> Recipe:
        """Measure where an encoder will run."""
        places = self._places
        task: Any = ray.remote(num_cpus=places.encoder_cpus, num_gpus=places.gpus, max_retries=3)(measure)
        reference = task.remote(self._document, self._places.threads)
        recipe: Recipe = await _problems_of(asyncio.wrap_future(reference.future()))
        return recipe

    async def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        """See `Conveyor`."""
        for start in range(0, len(chunks), _WAVE):
            async with aclosing(self._wave(plan, chunks[start : start + _WAVE])) as made:
                async for chunk in made:
                    yield chunk

    async def _wave(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        """Ray Data is read in a thread; whoever stops asking has it stop after the chunk that comes next.

        Nobody waits for that: where no machine is had, the next chunk never comes, and the thread must not keep the process.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
        ended = threading.Event()

        def tell(what: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the job has ended, and its loop with it
                loop.call_soon_threadsafe(queue.put_nowait, what)

        def read() -> None:
            try:
                for chunk in self._stream(plan, chunks):
                    if ended.is_set():
                        return
                    tell(chunk)
                tell(None)
            except BaseException as error:
                tell(_told(error))

        threading.Thread(target=read, name="chunks of Ray Data", daemon=True).start()
        try:
            while (told := await queue.get()) is not None:
                if isinstance(told, BaseException):
                    raise told
                yield told
        finally:
            ended.set()

    def _stream(self, plan: Plan, chunks: Sequence[int]) -> Iterator[int]:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        setup = Setup(self._document, self._job_id, plan, self._beside)
        dataset = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=len(chunks))
        dataset = self._stages(dataset, setup, len(chunks))
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from block["chunk"].to_pylist()

    def _stages(self, dataset: Any, setup: Setup, chunks: int) -> Any:
        from ray.data import ActorPoolStrategy

        spec, places = self._resource.spec.reindex, self._places
        common = {
            "fn_constructor_args": (setup,),
            "batch_size": None,
            "batch_format": "pyarrow",
            "zero_copy_batch": True,
            "max_concurrency": AT_ONCE,
            "max_task_retries": spec.attempts,  # Ray's own are without end: a chunk may be what kills its process
        }
        if spec.decoders:
            decoders = ActorPoolStrategy(size=min(spec.decoders, chunks))
            dataset = dataset.map_batches(Decoder, compute=decoders, num_cpus=places.decoder_cpus, **common)
        workers = ActorPoolStrategy(size=min(spec.workers, chunks))
        needs = {"num_cpus": places.encoder_cpus, "num_gpus": places.gpus}
        return dataset.map_batches(Encoder if spec.decoders else Maker, compute=workers, **needs, **common)

    @property
    def _document(self) -> dict[str, Any]:
        return self._resource.model_dump(mode="json", by_alias=True, exclude_none=True)


async def _problems_of(work: Any) -> Any:
    try:
        return await work
    except Exception as error:
        raise problem_in(error) from error


def _told(error: BaseException) -> BaseException:
    """What a process met, or in our words that it was lost too often."""
    found = problem_in(error)
    if not isinstance(found, ray.exceptions.RayActorError) or found.actor_init_failed:
        return found
    return ProblemError(
        ProblemType.UNAVAILABLE,
        f"a process that made a chunk was lost again and again ({found}): give it more memory, or lower "
        "spec.reindex.chunkImages, and ask again",
    )


def problem_in(error: BaseException) -> BaseException:
    """The problem that a process met, out of what Ray wraps around it; else the error itself."""
    found: BaseException | None = error
    for _ in range(10):
        if found is None or isinstance(found, ProblemError):
            break
        found = getattr(found, "cause", None) or found.__cause__
    return found if isinstance(found, ProblemError) else error
