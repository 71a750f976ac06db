"""The parameters of a distribution as maps over a whole image, written piece by piece.

One module for each family of distributions. Networks are run elsewhere.
"""
