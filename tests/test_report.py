"""The one-page report: what it says, that it needs nothing else, and that no name becomes a tag."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_structseg import Image, read_image
from napari_structseg.distributions import DomainCheck, Finding
from napari_structseg.errors import InputError
from napari_structseg.exports.report.content import ModelFacts, ReportContent
from napari_structseg.exports.report.page import report_html, write_report
from napari_structseg.exports.report.plane import Plane, best_axis
from napari_structseg.exports.samples import SampleSet
from napari_structseg.io.nifti import write_volume
from napari_structseg.models import ClassSpec
from predict_helpers import image, model, refused, run  # noqa: F401 -- fixtures

CLASSES = (
    ClassSpec(name="background", color="#000000"),
    ClassSpec(name="lesion", color="#d62728"),
    ClassSpec(name="oedema", color="#1f77b4"),
)
SHAPE = (4, 20, 30)


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def square(side: int, label: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 5 : 5 + side, 8 : 8 + side] = label
    return labels


def contents(*samples: np.ndarray, shown: np.ndarray | None = None, **more: object):
    scan = Image.from_array(
        np.random.default_rng(0).normal(size=SHAPE).astype(np.float32),
        spacing=(3, 1, 1),
        name=str(more.pop("name", "scan")),
    )
    gathered = SampleSet(scan, len(CLASSES), square(4) if shown is None else shown)
    for one in samples:
        gathered.add(one)
    settings = {"classes": CLASSES, "shown": "the mean", **more}
    return ReportContent(image=scan, samples=gathered, **settings)


def test_it_says_volumes_intervals_and_hypotheses() -> None:
    # Twenty samples: 12 of 16 voxels, 8 of 64; a voxel has 3 mm³.
    page = Page(report_html(contents(*[square(4)] * 12, *[square(8)] * 8)))
    assert "Segmentation of scan" in page.words
    assert "not a medical device" in page.words
    # 16 voxels shown, 0.048 mL; the mean of samples 35.2 voxels.
    assert "lesion 0.05 0.11 0.05 to 0.19" in page.words
    assert "90 % of 20 samples" in page.words
    assert "Small: 12 of 20 samples (39 to 78 %)" in page.words
    assert "Large: 8 of 20 samples (22 to 61 %)" in page.words
    # What is nowhere has no row.
    assert "oedema" not in page.words
    assert page.tags.count("svg") == 3 + 2 + 1


def test_it_needs_no_other_file_and_no_script() -> None:
    text = report_html(contents(square(5), square(6), square(7)))
    page = Page(text)
    assert "script" not in page.tags
    assert not {"link", "iframe", "object"} & set(page.tags)
    links = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    assert links
    assert all(value.startswith("data:image/png;base64,") for value in links)
    assert "url(" not in text
    assert "@import" not in text
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in (
        page.attributes
    )


def test_no_name_becomes_a_tag() -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    classes = (*CLASSES[:1], ClassSpec(name=evil, color="#d62728"), *CLASSES[2:])
    made = contents(*[square(5)] * 3, name=evil)
    content = ReportContent(
        image=made.image,
        samples=made.samples,
        classes=classes,
        shown=evil,
        model=ModelFacts(evil, evil, evil, evil),
        domain=DomainCheck(evil, (Finding(evil, evil, evil, 1.0),)),
        facts=((evil, evil),),
        command=evil,
    )
    page = Page(report_html(content))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    # Title, heading, shown, table, legend, caption of the bar, model, facts, command.
    assert page.words.count("<script>alert(1)</script>") >= 9


def test_a_warning_about_the_image_is_said_first() -> None:
    finding = Finding("grey matter", "40 mL", "500 to 900 mL", 2.0)
    page = Page(
        report_html(contents(square(5), model=ModelFacts("m"), domain=DomainCheck("m", (finding,))))
    )
    assert "outside what the model 'm' was made for: grey matter 40 mL" in page.words
    assert ("role", "alert") in page.attributes
    assert page.words.index("grey matter 40 mL") < page.words.index("Image and segmentation")
    serves = Page(report_html(contents(square(5), model=ModelFacts("m"), domain=DomainCheck("m"))))
    assert "yes, by what it says of itself" in serves.words
    assert ("role", "alert") not in serves.attributes
    unknown = Page(report_html(contents(square(5), model=ModelFacts("m"))))
    assert "the model does not say what images it was made for" in unknown.words


def test_without_samples_it_says_that_nothing_is_known() -> None:
    page = Page(report_html(contents()))
    assert "No samples were drawn" in page.words
    assert "Hypotheses" not in page.words


def pictures(text: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    return [np.asarray(Pillow.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_the_slice_is_the_one_where_samples_differ_and_lies_upright() -> None:
    # Array axes towards superior, anterior and right: all are turned on the page.
    data = np.zeros(SHAPE, np.float32)
    data[2, 0, 0] = 100
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]]) + 0.0
    affine[:3, 3] = (5, 6, 7)
    scan = Image.from_array(data, affine=affine)
    shown = np.zeros(SHAPE, np.uint8)
    shown[0, 1:19, 1:29] = 1
    gathered = SampleSet(scan, 3, shown)
    other = shown.copy()
    other[2, 1:19, 1:29] = 2
    gathered.add(other)
    assert (best_axis(scan), gathered.position(0)) == (0, 2)
    content = ReportContent(
        image=scan, classes=CLASSES, shown="the mean", samples=gathered, window=(0, 100)
    )
    text = report_html(content)
    whole = pictures(text)[0]
    assert whole.shape == (20, 30)
    # The corner that is anterior of nothing and right of nothing: bottom and right on the page.
    assert whole[-1, -1] == 255
    assert np.count_nonzero(whole) == 1
    assert Plane.of(scan, 0, 2).letters == ("R", "L", "A", "P")
    assert "axial slice 3 of 4" in Page(text).words


def test_a_small_finding_is_shown_large(tmp_path: Path) -> None:
    scan = Image.from_array(np.ones((200, 300), np.uint8), spacing=(1, 1))
    shown = np.zeros((200, 300), np.uint8)
    shown[50:60, 100:110] = 1
    gathered = SampleSet(scan, 3, shown)
    for _ in range(3):
        gathered.add(shown)
    text = report_html(
        ReportContent(image=scan, classes=CLASSES, shown="the mean", samples=gathered)
    )
    whole, near = pictures(text)[:2]
    assert whole.shape == (200, 300)
    # 40 mm around it.
    assert near.shape == (40, 40, 3)
    assert "the box is shown beside it" in Page(text).words
    assert "100 100 100 to 100" in Page(text).words
    assert "Shown (mm²)" in Page(text).words


def test_the_command_writes_it_beside_its_results(
    image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    options = ("--model", model, "--out", out, "--samples", 4, "--seed", 5)
    assert run(image, *options, "--report", "report.html") == 0
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert "90 % of 4 samples" in page.words
    assert "seed 5" in page.words
    assert "T1.nii.gz (SHA-256" in page.words
    assert "structseg predict" in page.words
    # The numbers are those of the table, and of the files.
    rows = (out / "volumes.csv").read_text(encoding="utf-8").splitlines()[1:]
    largest = max(rows[1:], key=lambda row: float(row.split(",")[3]))
    assert largest.split(",")[1] in page.words
    capsys.readouterr()
    refused(capsys, image, *options, "--report", "report.html", says=("--overwrite",))
    assert run(image, *options, "--report", "report.html", "--overwrite") == 0


@pytest.mark.parametrize("name", ["../report.html", "report.txt", "a/b.html", ".html", "a\\b.html"])
def test_a_report_is_an_html_file_in_the_folder_of_the_results(
    name: str, image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    refused(
        capsys, image, "--model", model, "--out", out, "--report", name, says=("ends in .html",)
    )
    assert not (tmp_path / "report.html").exists()


def test_a_file_of_that_name_is_not_replaced_unasked(
    image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    out.mkdir()
    (out / "report.html").write_text("mine", encoding="utf-8")
    options = ("--model", model, "--out", out, "--report", "report.html")
    refused(capsys, image, *options, says=("report.html already",))
    assert (out / "report.html").read_text(encoding="utf-8") == "mine"


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_report(tmp_path / "report.pdf", contents())
    assert not list(tmp_path.iterdir())


def test_letters_need_an_orientation(tmp_path: Path) -> None:
    scan = contents().image
    assert Plane.of(scan, 0, 0).letters is None
    write_volume(tmp_path / "a.nii.gz", square(4), scan.geometry)
    assert Plane.of(read_image(tmp_path / "a.nii.gz"), 0, 0).letters == ("R", "L", "A", "P")
