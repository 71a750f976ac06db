"""Models on every case of a data set: `structseg evaluate`."""
