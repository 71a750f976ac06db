"""Predictions that are kept: the request, the files that come of it, and the recipe beside them."""
