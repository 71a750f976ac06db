"""Fine-tuning as a person sees it: a run, what it brings, and taking it over."""
