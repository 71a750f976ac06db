"""The dock in napari's window. Nothing else in the package imports Qt or napari."""
