"""Shards of a corpus written by the workers of a Dask cluster: one task a shard, and only paths and numbers travel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from c2s.cells.blocks import MatrixBlocks, Stamp, are_there
from c2s.cells.genes import listed
from c2s.errors import C2SError, ConfigError, MissingDependencyError
from c2s.sentences.ranking import on_one_thread
from c2s.sentences.shards import Plan, Shard, versions, write_shard

if TYPE_CHECKING:
    from distributed import Client

SECONDS = 5.0  # to wait for the scheduler, and for its first worker
RETRIES = 2  # of a task that failed; Dask itself repeats those whose worker died


@contextmanager
def connected(scheduler: str | Client) -> Iterator[Client]:
    """Yield a client of the scheduler, which has workers of these versions; one made here is closed again.

    Parameters
    ----------
    scheduler
        An address, as ``tcp://host:8786``, or a client.

    Raises
    ------
    MissingDependencyError
        The package ``distributed`` is not installed.
    ConfigError
        Nobody answers there within 5 s, there is no worker, or a worker has another version of c2s or pyarrow.
    """
    try:
        from distributed import Client
    except ImportError as error:
        msg = 'a scheduler needs the package distributed: pip install "c2s[distributed]"'
        raise MissingDependencyError(msg) from error
    if isinstance(scheduler, Client):
        _require_workers(scheduler)
        yield scheduler
        return
    try:
        client = Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = f"no Dask scheduler answers at {scheduler}: {error}. Start one with `dask scheduler`, and pass the address it prints, as tcp://host:8786"
        raise ConfigError(msg) from error
    try:
        _require_workers(client)
        yield client
    finally:
        client.close()


def require_sight(client: Client, source: Path, work: Path, *, sources: Sequence[Stamp]) -> None:
    """Refuse workers that do not see the cells, the same cells, or the folder they are to write to.

    Raises
    ------
    ConfigError
        There are such workers; the message names them.
    """
    found = client.run(_sight, str(source.absolute()), str(work.absolute()), list(sources), on_error="return")
    refuse({worker: str(answer) for worker, answer in found.items() if answer is not None})


def write_shards(client: Client, work: Path, numbers: Iterable[int]) -> Iterator[Shard]:
    """Yield shards as workers finish them, in any order. Tasks of killed workers are repeated by others.

    Raises
    ------
    C2SError
        What :func:`c2s.sentences.shards.write_shard` raises on a worker; ConfigError where several workers died over one shard.
    """
    from distributed import KilledWorker, as_completed

    futures = client.map(
        _write, [str(work.absolute())] * len(wanted := list(numbers)), wanted, retries=RETRIES, pure=False
    )
    try:
        for future in as_completed(futures, loop=client.loop):
            shard: Shard = future.result()
            yield shard
    except KilledWorker as error:
        msg = f"several workers died over one shard: {error}. They need about 1.5 GB each for one thread; start them with more memory, and run the same command again"
        raise ConfigError(msg) from error
    finally:
        client.cancel(futures)


def refuse(faults: Mapping[str, str]) -> None:
    """Raise a ConfigError that names workers and what is wrong with them, if there are any."""
    if faults:
        named = [f"{worker}: {fault}" for worker, fault in sorted(faults.items())]
        msg = f"{len(faults)} Dask workers cannot encode these cells: {listed(named, 3)}"
        raise ConfigError(msg)


def _require_workers(client: Client) -> None:
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except TimeoutError as error:
        address = client.scheduler_info()["address"]
        msg = f"the Dask scheduler at {address} has no workers; start some with `dask worker {address}`"
        raise ConfigError(msg) from error
    faults = {}
    for worker, found in client.run(_asks_versions(), on_error="return").items():
        if not isinstance(found, dict):
            faults[worker] = (
                f'c2s cannot be imported there ({found}): pip install "c2s[distributed]=={versions()["c2s"]}"'
            )
        elif found != versions():
            have, need = (
                ", ".join(f"{name} {number}" for name, number in each.items()) for each in (found, versions())
            )
            faults[worker] = f"it has {have}, here is {need}; install the same"
    refuse(faults)


def _asks_versions() -> Callable[[], dict[str, str]]:
    """Return a function that travels by value, so that it can be asked of a worker without c2s."""

    def ask() -> dict[str, str]:
        import pyarrow

        import c2s

        return {"c2s": c2s.__version__, "pyarrow": pyarrow.__version__}

    return ask


def _sight(source: str, work: str, sources: Sequence[Stamp]) -> str | None:
    """Return what hinders this process from encoding, None where nothing does."""
    if not Path(work).is_dir():
        return (
            f"it does not see {Path(work).parent}, where the corpus is written; name a folder on a shared file system"
        )
    try:
        handle, name = tempfile.mkstemp(dir=work, prefix="part-")
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        return f"it cannot write to {Path(work).parent}: {error}"
    try:
        same = are_there(source, sources)
    except C2SError:
        return f"it does not see {source}; put the cells on a shared file system, under the same path"
    return None if same else f"what it sees at {source} has another size or time of change"


def _write(work: str, number: int) -> Shard:
    plan = Plan.read(Path(work))
    with (
        on_one_thread(),  # a worker runs as many tasks at a time as it has threads
        MatrixBlocks.open(plan.source, layer=plan.layer, on_collision=plan.on_collision, turned=Path(work)) as matrix,
    ):
        return write_shard(plan, matrix, Path(work), number)
