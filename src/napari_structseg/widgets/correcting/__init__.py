"""What the user says and keeps by hand, in one viewer: strokes, the result, and both in layers."""
