"""Small widgets that panels are composed of: sliders, lists, rows, colours. No program state."""
