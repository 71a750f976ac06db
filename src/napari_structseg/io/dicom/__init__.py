"""DICOM files: series of slices, multi-frame images, segmentations.

Nothing here imports pydicom before it is needed: it comes with the extra ``dicom``.
"""
