"""Inference: from an image to a distribution, and from a distribution to what is shown."""
