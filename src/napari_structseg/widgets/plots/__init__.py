"""Pictures of numbers: plots that panels put on show. They compute nothing and keep no state."""
