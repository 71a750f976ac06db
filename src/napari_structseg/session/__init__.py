"""What the user is doing: requests, the engine that answers them, and running a model.

No Qt and no napari: everything here works, and is tested, without a window.
"""
