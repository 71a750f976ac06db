"""What the plugin reads from and writes to napari's viewer: views, layers, lines. No panels."""
