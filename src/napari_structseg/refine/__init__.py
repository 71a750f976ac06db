"""From logits to labels that agree with their neighbours: solvers of the refinement stage.

A solver sees logits and its own settings, and knows nothing of networks, files or windows.
"""
