"""How far the samples of a model are to stray, fitted to labelled cases."""
