"""What other programs made becomes a model of ours: checked once, then a file like any other."""
