"""The user's own result: what was accepted and painted, how to take it back, and where it is safe.

No Qt and no napari. What a dock needs:

- :class:`~napari_structseg.correction.actions.Correction`: the result (labels, locks, counts) and
  the strokes of one image. Every action is a method, one named entry of the history, and one
  emission of ``changed``; ``undo`` and ``redo`` take them back and forth.
- :class:`~napari_structseg.correction.autosave.Autosave`: writes every action to a session folder,
  in a thread of its own; ``Autosave.reopen(folder)`` goes on with one.
- :func:`~napari_structseg.correction.folders.find_sessions`: which sessions there are of an image
  (:func:`~napari_structseg.correction.identity.identify`), and which a crash has left.
- :func:`~napari_structseg.correction.components.component_at`: the component under a voxel.
"""
