"""The parameters of a distribution as maps over a whole image, and the tiles that fill them.

One module for each family of distributions. Networks are run elsewhere.
"""
