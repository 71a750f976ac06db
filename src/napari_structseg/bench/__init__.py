"""What the sliders cost, measured: `structseg bench`."""
