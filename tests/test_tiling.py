from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_structseg.prediction.maps.tiling import make_tiles


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shape of a grid, size of tiles, overlap."""
    shape = tuple(draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)))
    size = tuple(draw(st.integers(3, 16)) for _ in shape)
    overlap = tuple(draw(st.integers(0, one - 3)) for one in size)
    return shape, size, overlap


@given(grids())
def test_tiles_cover_the_grid_with_weights_that_add_up_to_one(
    grid: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, size, overlap = grid
    total = torch.zeros(shape)
    for tile in make_tiles(shape, size, overlap):
        # Tiles at the border are moved inwards, not cut: a network sees the size it expects.
        widths = tuple(part.stop - part.start for part in tile.region)
        assert widths == tuple(min(n, width) for n, width in zip(shape, size, strict=True))
        assert tile.weight.shape == total[tile.region].shape
        assert tile.weight.dtype == torch.float32
        assert (tile.weight > 0).all()
        total[tile.region] += tile.weight
    torch.testing.assert_close(total, torch.ones(shape))


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_neighbours_share_at_least_the_overlap_and_tiles_are_few(
    n: int, width: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, width - 1))
    parts = [tile.region[0] for tile in make_tiles((n,), (width,), (overlap,))]
    assert parts[0].start == 0
    assert parts[-1].stop == n
    for one, following in itertools.pairwise(parts):
        assert one.start < following.start
        assert one.stop - following.start >= overlap
    # One tile fewer would not reach the end.
    assert len(parts) == 1 or (len(parts) - 1) * (width - overlap) + overlap < n


def test_tiles_come_in_order_with_the_last_axis_fastest() -> None:
    starts = [
        tuple(part.start for part in tile.region) for tile in make_tiles((4, 6), (2, 3), (0, 0))
    ]
    assert starts == [(0, 0), (0, 3), (2, 0), (2, 3)]


def test_weights_are_largest_in_the_middle_of_a_tile() -> None:
    first, second = make_tiles((12,), (8,), (4,))
    assert first.weight[:4].tolist() == [1, 1, 1, 1]
    assert first.weight[4:].diff().max() < 0
    torch.testing.assert_close(first.weight[4:] + second.weight[:4], torch.ones(4))
    torch.testing.assert_close(first.weight, second.weight.flip(0))


def test_a_tile_touches_regions_that_share_a_voxel() -> None:
    (tile, _) = make_tiles((12, 5), (8, 5), (4, 0))
    assert tile.region == (slice(0, 8), slice(0, 5))
    assert tile.touches((slice(7, 9), slice(4, 5)))
    assert not tile.touches((slice(8, 12), slice(0, 5)))
    assert not tile.touches((slice(3, 3), slice(0, 0)))


@pytest.mark.parametrize("overlap", [4, 5, -1])
def test_an_overlap_that_no_tile_can_have_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match=f"overlap {overlap} must lie between 0 and .* 4"):
        make_tiles((10,), (4,), (overlap,))
