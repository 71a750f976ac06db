"""From a distribution to what can be looked at: labels, summaries, contours, hypotheses.

Pure functions and their caches. No threads, no files, no windows.
"""
