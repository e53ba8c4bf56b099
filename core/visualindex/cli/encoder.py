"""`visualindex encoder`: fitting the projections that make vectors and patches shorter."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from visualindex.imaging import Decoded, DecodePool, InputSpec
    from visualindex.spec import Spec

encoder = typer.Typer(no_args_is_help=True, help="The encoder: fit projections to your own pictures.")

_CHUNK = 32


@encoder.command()
def fit(
    source: Annotated[
        str, typer.Argument(help="Folder or manifest of pictures, as for `ingest`.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Projection file to write (.npz).")],
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="Spec whose encoder is fitted; the default encoder without."),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=8, max=4096, help="Components: the largest dimension it serves.")
    ] = 512,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads of the encoder.")] = 2,
) -> None:
    """Fit a PCA projection on pictures like those you will index; name it as `encoder.projection` in the spec.

    The same pictures in the same order give the same file. It takes more pictures than components.
    """
    from visualindex.collections.debian import cache_folder
    from visualindex.encoders import EncoderConfigError, fit_projection, load_unprojected
    from visualindex.errors import ProblemError, ProblemType

    spec, paths = _spec(file), _paths(source)
    try:
        model = load_unprojected(spec.encoder, cache_dir=cache_folder() / "encoders", threads=threads)
        pictures = _Pictures(paths, spec, model.input)
        projection = fit_projection(model, pictures, rows=rows)
    except EncoderConfigError as error:
        raise ProblemError(ProblemType.INVALID_REQUEST, str(error)) from None
    projection.save(output)
    kept = ", ".join(
        f"{share:.1%} at {size}"
        for size in sorted({64, 128, 256, rows})
        if size <= rows and (share := _kept(projection, size))
    )
    typer.echo(f"{output}: fitted on {len(paths) - pictures.skipped} pictures, {pictures.skipped} skipped")
    typer.echo(f"variance kept: {kept}")


@encoder.command("fit-patches")
def fit_patches(
    source: Annotated[
        str, typer.Argument(help="Folder or manifest of pictures, as for `ingest`.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Projection file to write (.npz).")],
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="Spec whose encoder is fitted; the default encoder without."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads of the encoder.")] = 2,
) -> None:
    """Fit what packs the patches of an encoder for reranking; name it as `rerank.projection` in the spec.

    A few hundred pictures that look like those you index are enough. Fit it before `rerank.mode` is switched on.
    """
    from visualindex.collections.debian import cache_folder
    from visualindex.encoders import EncoderConfigError, load_unprojected
    from visualindex.errors import ProblemError, ProblemType
    from visualindex.rerank.patches import fit_patch_projection

    spec, paths = _spec(file), _paths(source)
    try:
        model = load_unprojected(spec.encoder, cache_dir=cache_folder() / "encoders", threads=threads)
        pictures = _Pictures(paths, spec, model.input)
        projection = fit_patch_projection(model, pictures)
    except EncoderConfigError as error:
        raise ProblemError(ProblemType.INVALID_REQUEST, str(error)) from None
    projection.save(output)
    typer.echo(f"{output}: fitted on {len(paths) - pictures.skipped} pictures, {pictures.skipped} skipped")


def _kept(projection: Any, size: int) -> float:
    return float(projection.explained[:size].sum())


def _spec(file: Path | None) -> "Spec":
    from visualindex.spec import Spec, load_specs

    return load_specs([file])[0].spec if file else Spec()


def _paths(source: str) -> list[Path]:
    """The picture files of a source; addresses are not fetched here."""
    from visualindex.cli.sources import Item, read_source

    return [entry.path for entry in read_source(source) if isinstance(entry, Item) and entry.path is not None]


class _Pictures:
    """The decodable pictures as uint8[height, width, 3], in order; counts those that are not."""

    def __init__(self, paths: list[Path], spec: "Spec", shape: "InputSpec") -> None:
        self.skipped = 0
        self._paths = paths
        self._limits = spec.limits
        self._shape = shape

    def __iter__(self) -> Iterator[Any]:
        import asyncio

        from visualindex.imaging import DecodePool

        self.skipped = 0
        with asyncio.Runner() as runner:
            pool = DecodePool(2, self._limits, max_queue=_CHUNK)
            runner.run(pool.start())
            try:
                for start in range(0, len(self._paths), _CHUNK):
                    chunk = self._paths[start : start + _CHUNK]
                    yield from self._decodable(runner.run(self._decode(pool, chunk)))
            finally:
                runner.run(pool.close())

    def _decodable(self, outcomes: "list[Decoded | BaseException]") -> Iterator[Any]:
        from visualindex.errors import ProblemError

        for outcome in outcomes:
            if isinstance(outcome, ProblemError | OSError):
                self.skipped += 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                yield outcome.pixels

    async def _decode(self, pool: "DecodePool", paths: list[Path]) -> "list[Decoded | BaseException]":
        import asyncio

        from visualindex.imaging import DecodeJob

        async def one(path: Path) -> "Decoded":
            return await pool.decode(DecodeJob(await asyncio.to_thread(path.read_bytes), self._shape))

        return await asyncio.gather(*(one(path) for path in paths), return_exceptions=True)
