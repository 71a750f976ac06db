"""The flow of a large graph in a process of its own.

A maximum flow of millions of links takes seconds, in which neither SciPy nor PyMaxflow lets another
thread of Python run: a window would stand still, and nothing could be cancelled. A process can be
ended at any moment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import MemoryLimitError
from napari_structseg.refine.graph_cut.flows import LIBRARIES, Cut, Graph, Grid

_GRAPH, _CUT, _SAID = "graph.npz", "cut.npz", "said.txt"
_OF_GRAPH, _LINK = ("gains", "first", "second", "capacities"), "link"
_LOOK_SECONDS = 0.02
_END_OF_TEXT = 300
# On Windows a process opens a terminal of its own otherwise.
_WITHOUT_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)


def flow_elsewhere(graph: Graph | Grid, by: str, share: float = 0.0) -> Generator[float, None, Cut]:
    """The minimum cut, step by step; to close the generator ends the process.

    Parameters
    ----------
    graph
        Of which the cut is.
    by
        ``scipy`` or ``pymaxflow``.
    share
        What is yielded while the process works.

    Raises
    ------
    MemoryLimitError
        If the process ended without a result, as one does that runs out of memory.
    """
    with tempfile.TemporaryDirectory(prefix="structseg-cut-") as name:
        folder = Path(name)
        np.savez(folder / _GRAPH, allow_pickle=False, **_arrays_of(graph))
        with (folder / _SAID).open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(folder), by],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                creationflags=_WITHOUT_WINDOW,
            )
        try:
            while process.poll() is None:
                yield share
                try:
                    process.wait(_LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode or not (folder / _CUT).exists():
            text = (folder / _SAID).read_text(encoding="utf-8", errors="replace").strip()
            raise MemoryLimitError(
                f"The process for a graph cut of {graph.gains.size:,} voxels ended without a "
                f"result ({text[-_END_OF_TEXT:] or process.returncode}). It may have run out of "
                "memory: close other programs, or lower the weights of the pairs."
            )
        with np.load(folder / _CUT) as found:
            return Cut(found["sink"], int(found["flow"]))


def main(folder: Path, by: str) -> None:
    """Compute what a folder asks for, in the process itself."""
    with np.load(folder / _GRAPH) as parts:
        graph = _graph_of(parts)
    cut = LIBRARIES[by](graph)
    np.savez(folder / _CUT, sink=cut.sink, flow=cut.flow)


def _arrays_of(graph: Graph | Grid) -> dict[str, npt.NDArray[np.integer]]:
    if isinstance(graph, Grid):
        links = {f"{_LINK}{n}": one for n, one in enumerate(graph.capacities)}
        return {"gains": graph.gains, "offsets": np.array(graph.offsets), **links}
    return {name: getattr(graph, name) for name in _OF_GRAPH}


def _graph_of(parts: Mapping[str, npt.NDArray[np.integer]]) -> Graph | Grid:
    if "offsets" not in parts:
        return Graph(*(parts[name] for name in _OF_GRAPH))
    offsets = tuple(map(tuple, parts["offsets"].tolist()))
    links = (parts[f"{_LINK}{n}"] for n in range(len(offsets)))
    return Grid(parts["gains"], offsets, tuple(links))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
