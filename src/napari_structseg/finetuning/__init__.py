"""The model learns from what the user has corrected, and can always go back. No Qt, no napari.

What a dock needs:

- :class:`~napari_structseg.finetuning.settings.FinetuneSettings`: what learns, from which cases.
- :class:`~napari_structseg.finetuning.process.FinetuneProcess`: runs it in a process of its own,
  tells what happens as :mod:`~napari_structseg.finetuning.events`, and can be paused, asked to
  step aside, and cancelled.
- :func:`~napari_structseg.finetuning.run.finetune`: the same in this process, for a terminal.
- :func:`~napari_structseg.finetuning.families.adopt_run`: keeps the result of a run as a
  :class:`~napari_structseg.finetuning.versions.Version`; ``versions_of(model)`` gives all of them.
"""
