"""From an image to the distribution over its segmentations: predictors and what opens them.

What a network, slices or maps of probabilities say ends here as a LogitDistribution.
Drawing from it, refining it and writing files belong elsewhere.
"""
