"""Predictions of any program in a model's place: found by the names of the cases."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from napari_structseg.errors import InputError
from napari_structseg.io.formats import NIFTI, PNG, has_ending
from napari_structseg.io.other_programs.members import MAX_MEMBERS, find_file, find_members
from napari_structseg.io.references import file_hash
from napari_structseg.prediction.given import GivenMembers
from napari_structseg.prediction.probabilities import named_classes
from napari_structseg.prediction.specs import MapSpec

_SAMPLES = "sample-*"


class Predictions:
    """A folder with what a program says of every case.

    For each case: ``CASE.npz`` of nnU-Net, or a file of labels or probabilities called ``CASE``; or
    such a file in each of several folders, one for each fold or sample; or a folder ``CASE`` with
    ``sample-001.nii.gz`` and so on, as ``structseg predict`` writes them for many images.

    Parameters
    ----------
    folder
        The folder.
    name
        What to call them in the table.
    class_names
        Of the data set, in label order.
    device
        Where the scores are computed.
    """

    def __init__(
        self, folder: Path, name: str, class_names: Sequence[str], device: torch.device
    ) -> None:
        self.folder = folder
        self.name = name
        self._names = tuple(class_names)
        self._device = device

    def paths(self, case: str) -> list[Path]:
        """The file of each member of a case.

        Raises
        ------
        InputError
            If there is none, or one lies in some folders and not in others.
        """
        if not self.folder.is_dir():
            raise InputError(f"There is no folder {self.folder} for --predictions. Check the name.")
        own = find_file(self.folder, case)
        if own is not None:
            inside = sorted(own.glob(_SAMPLES)) if own.is_dir() else []
            return [path for path in inside if has_ending(path, NIFTI + PNG)] or [own]
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir())
        found = {path: find_file(path, case) for path in folders[:MAX_MEMBERS]}
        files = [one for one in found.values() if one is not None]
        if not files:
            raise InputError(
                f"{self.folder} holds no prediction of the case {case!r}. It should be called "
                f"{case}.npz or {case}.nii.gz, in this folder or in one for each member; or be a "
                f"folder {case} with sample-001.nii.gz and so on."
            )
        if len(files) < len(folders):
            lacking = next(path for path, one in found.items() if one is None)
            raise InputError(
                f"Every folder in {self.folder} is a member, but {lacking.name} holds no "
                f"prediction of the case {case!r}. Predict it, or move the folder away."
            )
        return files

    def predictor(self, case: str) -> GivenMembers:
        """What gives the distribution of a case.

        Raises
        ------
        InputError
            If there is none, or it cannot be used, or has other classes than the data set.
        """
        members = find_members(self.paths(case), case, n_classes=len(self._names))
        given = GivenMembers(members, "members", self._device, "predictions")
        spec = given.spec
        is_unnamed = all(one.names is None for one in members)
        if is_unnamed and spec.n_classes == len(self._names):
            spec = replace(spec, classes=named_classes(self._names))
        given.spec = replace(spec, name=self.name)
        return given

    def spec(self, case: str) -> MapSpec:
        """What they are, in words."""
        return self.predictor(case).spec

    def sha256(self, cases: Sequence[str]) -> str:
        """Of the files of all cases: rows of other predictions are other rows."""
        digest = hashlib.sha256()
        for case in cases:
            for one in self.predictor(case).members:
                for path in one.files:
                    digest.update(f"{case} {file_hash(path)}\n".encode())
        return digest.hexdigest()
