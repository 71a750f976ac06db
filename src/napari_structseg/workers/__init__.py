"""Work in several processes: on this computer, or on a cluster of dask.distributed."""
