"""Predictions of many images: one folder for each case, and one table of all."""
