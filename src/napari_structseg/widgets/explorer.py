"""The explorer: what drives the picture of a viewer from scripts and from napari's console.

Over 300 lines, most of them the documentation of public methods.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_structseg.distributions import DomainCheck, LogitDistribution, Strokes
from napari_structseg.errors import ConfigError, InputError, StructSegError
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec
from napari_structseg.prediction.intensity_windows import Range
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.session.state import ControlsState, ExplorerState
from napari_structseg.widgets.correcting.book import Book
from napari_structseg.widgets.correcting.by_script import label_of, strokes_at
from napari_structseg.widgets.correcting.undoing import Step
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.explore import ExploreWidget
from napari_structseg.widgets.sessions import Session, session_of, state_of
from napari_structseg.widgets.shown import layer_for, show_distribution
from napari_structseg.widgets.threads.pumping import pump_until
from napari_structseg.widgets.viewer.marking import mark_place
from napari_structseg.widgets.viewer.sources import image_layer_of, source_layers
from napari_structseg.widgets.viewer.specs import spec_of

_NOTHING_COMPUTED = (
    "Nothing was computed for the chosen image yet. Run a model with run(), or show a distribution "
    "with show_distribution()."
)
# As in napari's menu, which then shows and hides this dock instead of opening another.
DOCK_NAME = "Explore segmentations (StructSeg)"


class Explorer:
    """Runs models and moves the sliders of one viewer.

    Whatever is set here is seen in the dock, and what the user moves there is read here: both
    are views of :attr:`state`. Call it in the main thread, as everything of napari.

    Parameters
    ----------
    viewer
        A viewer with a window. The dock is opened if it is not there.

    Raises
    ------
    InputError
        If the viewer has no window.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self._open()

    def __repr__(self) -> str:
        source = self.state.source
        return f"Explorer(image={source.image!r}, model={source.model!r})"

    @property
    def state(self) -> ExplorerState:
        """Everything that is chosen in this viewer."""
        return state_of(self.viewer)

    @property
    def controls(self) -> ControlsState:
        """The sliders: set a field, and the picture follows."""
        return self.state.controls

    @property
    def distribution(self) -> LogitDistribution:
        """p(eta | x) of the image that is chosen.

        Raises
        ------
        InputError
            If nothing was computed for it yet.
        """
        return self._shown.engine.distribution

    @property
    def domain(self) -> DomainCheck | None:
        """Whether the model was made for the chosen image; None: it does not say.

        Raises
        ------
        InputError
            If nothing was computed for it yet.
        """
        return self._shown.domain

    def run(
        self,
        layer: ImageLayer | str,
        model: str | os.PathLike[str],
        *,
        device: str | None = None,
        roi: RegionOfInterest | None = None,
        intensity_window: Range | None = None,
        replace: bool = False,
    ) -> None:
        """Begin to run a model, as the Run button does; see :meth:`wait`.

        Parameters
        ----------
        layer
            An image layer of the viewer, or its name.
        model
            Name of a shipped model, a .safetensors file, a NIfTI file of class probabilities, or
            predictions of other programs: an .npz, or a folder with one folder for each member;
            ``state.source.members_as`` says what they become.
        device
            auto, cpu, cuda:0, ...; None: the one that is chosen.
        roi
            Slices of a volume that a 2-D model is applied to; None: those shown.
        intensity_window
            Intensities seen as 0 and 1; None: as the model says.
        replace
            What becomes of a labelling of the same image that was chosen by hand and is not saved:
            it goes with the result that the run replaces (True), or is kept as a layer of its own.
            Nothing is asked.

        Raises
        ------
        ConfigError
            If another run is on.
        InputError
            If there is no such layer, or no model can be applied to it.
        """
        session, source = self._open(), self.state.source
        name = layer if isinstance(layer, str) else layer.name
        names = [one.name for one in source_layers(self.viewer)]
        if name not in names:
            raise InputError(
                f"An image layer of the viewer was expected, but {name!r} came. There are: "
                f"{', '.join(names) or 'none'}."
            )
        if session.runs.job is not None:
            raise ConfigError("A run is on already. Wait for it with wait(), or cancel it.")
        with self.state.together():
            # What belongs to an image and a model comes after these.
            source.update({"image": name, "model": os.fspath(model), "roi": roi})
            source.intensity_window = intensity_window
            if device is not None:
                source.device = device
        session.controller.error = None
        if not session.runs.start(replace=replace):
            self._raise_error()

    def look_at(self, z: float, y: float, x: float) -> None:
        """Mark a place for a 2-D model, as *Pick* and a click on the image do.

        The viewer shows the slice through it. What the next run is applied to is that slice, or
        as many around it as ``state.source.n_slices`` says, and a box around the place that is as
        large as what the model was trained on.

        Parameters
        ----------
        z, y, x
            Index in the layer's data.

        Raises
        ------
        InputError
            If no volume and 2-D model are chosen, or the place is outside the image.
        """
        self._open()
        source = self.state.source
        layer, spec = image_layer_of(self.viewer, source), spec_of(source.model)
        if layer is None or spec is None or layer.ndim != 3 or spec.dimensions != 2:
            raise InputError(
                "A volume and a 2-D model were expected, but "
                f"{source.image!r} and {source.model!r} are chosen. Set state.source.image and "
                "state.source.model first."
            )
        mark_place(self.viewer, layer, spec, source, (z, y, x))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until everything that was asked for is computed and painted.

        The window goes on working meanwhile.

        Parameters
        ----------
        timeout
            In seconds; None: however long it takes.

        Raises
        ------
        TimeoutError
            If it takes longer.
        StructSegError
            If a run has failed; or whatever else has.
        """
        session = self._open()
        if not pump_until(lambda: not session.is_busy(), timeout):
            raise TimeoutError(f"The computation was not over within {timeout:g} s.")
        self._raise_error()

    def labels(self) -> npt.NDArray[np.uint8]:
        """The whole segmentation of what is chosen: wait for it, and return it.

        Never a mixture of what was shown before and now.

        Returns
        -------
        ndarray
            ``(*spatial)`` as the layer's data; 0 outside a region of interest.

        Raises
        ------
        InputError
            If nothing was computed for the chosen image yet.
        """
        shown, request = self._shown, self._open().controller.request
        if request is None:
            raise AssertionError("where something is shown, there is a request")
        whole = shown.engine.whole_labels(request)
        pump_until(whole.done)
        return shown.on_image(whole.result())

    def save(self, path: str | os.PathLike[str], *, keep_patient: bool = False) -> list[Path]:
        """Save the whole segmentation of what is chosen; return when it is written.

        Parameters
        ----------
        path
            Ends in .nii.gz, .nii, .seg.nrrd (3D Slicer) or .dcm (where the image is a DICOM
            series). A record of how it was made (.json) and a table of volumes (.csv) are
            written beside it. Or in .html: a report on one page, with samples.
        keep_patient
            Whether a DICOM file says who the patient is.

        Returns
        -------
        paths
            What was written, the segmentation first.

        Raises
        ------
        InputError
            If there is nothing to save yet, or the files cannot be written.
        """
        saving = self._open().saving
        saving.save(Path(path), keep_patient=keep_patient)
        pump_until(lambda: not saving.is_busy())
        if saving.last.error is not None:
            self._open().controller.error = None
            raise saving.last.error
        return list(saving.last.paths)

    def show_distribution(
        self,
        distribution: LogitDistribution,
        image: ImageLayer | Image | str,
        *,
        classes: Sequence[ClassSpec | str] | None = None,
        name: str = "distribution",
        replace: bool = False,
    ) -> None:
        """Explore one's own distribution, made of one's own tensors.

        Parameters
        ----------
        distribution
            On the image's grid, axes in the order of the layer's data.
        image
            An image layer of the viewer, or its name; or an image, which is added.
        classes
            Names, or names with colours, in label order; None: "class 1" and so on.
        name
            What it is called.
        replace
            As in :meth:`run`.

        Raises
        ------
        InputError
            If there is no such layer, or the distribution does not fit it.
        ConfigError
            If there are more or fewer classes than the distribution has.
        """
        session = self._open()
        layer = layer_for(self.viewer, image)
        controller = session.controller
        show_distribution(controller, distribution, layer, classes, name, replace=replace)

    @property
    def strokes(self) -> Strokes:
        """What was said of the image that is chosen, by hand or with :meth:`say`.

        Raises
        ------
        InputError
            If nothing was computed for it yet.
        """
        return self._book.strokes

    def say(self, label: int | str, voxels: npt.ArrayLike) -> None:
        """Say which class some voxels have, as a stroke of the brush does.

        The distribution is conditioned; see :meth:`wait`. It is one action, which :meth:`undo`
        takes back.

        Parameters
        ----------
        label
            The class: its number, or its name.
        voxels
            One index in the layer's data, ``(ndim,)``, several, ``(n, ndim)``, or a mask
            ``(*spatial)``.

        Raises
        ------
        InputError
            If nothing was computed for the chosen image yet, there is no such class, or a voxel
            lies outside the image.
        """
        book = self._book
        strokes = strokes_at(book.strokes.shape, voxels, label_of(book.classes, label))
        self._open().correcting.strokes.say(strokes)

    def undo(self) -> bool:
        """Take back the last action, of sliders or by hand; False if there was none.

        What was done by hand is taken back when this returns; see :meth:`wait` for the picture.
        """
        return self._step("undo")

    def redo(self) -> bool:
        """Do again what was undone last; False if there is nothing."""
        return self._step("redo")

    def _step(self, step: Step) -> bool:
        undoing = self._open().undoing
        undoing.step(step)
        pump_until(lambda: not undoing.is_busy())
        return undoing.has_done

    @property
    def _book(self) -> Book:
        book = self._open().correcting.book
        if book is None:
            raise InputError(_NOTHING_COMPUTED)
        return book

    @property
    def _shown(self) -> Exploration:
        shown = self._open().controller.current
        if shown is None:
            raise InputError(_NOTHING_COMPUTED)
        return shown

    def _open(self) -> Session:
        """The session of the viewer; its dock is opened if it is not there."""
        session = session_of(self.viewer)
        if session is not None:
            return session
        window = getattr(self.viewer, "window", None)
        if window is None:
            raise InputError("A napari viewer with a window was expected, but it has none.")
        window.add_dock_widget(ExploreWidget(self.viewer), name=DOCK_NAME)
        session = session_of(self.viewer)
        if session is None:
            raise AssertionError("a dock has a session")
        return session

    def _raise_error(self) -> None:
        controller = self._open().controller
        error, controller.error = controller.error, None
        if isinstance(error, StructSegError | MemoryError | RuntimeError):
            raise error


def explorer(viewer: ViewerModel) -> Explorer:
    """The explorer of a viewer; its dock is opened if it is not there.

    Parameters
    ----------
    viewer
        A napari viewer with a window.

    Examples
    --------
    >>> import napari_structseg as ss
    >>> explorer = ss.explorer(viewer)  # doctest: +SKIP
    >>> explorer.run(viewer.layers["MNI152 T1"], "brain-tissue")  # doctest: +SKIP
    >>> explorer.wait()  # doctest: +SKIP
    >>> explorer.controls.temperature = 1.4  # doctest: +SKIP
    """
    return Explorer(viewer)
