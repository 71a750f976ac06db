"""A segmentation and what is uncertain about it, on one page: one HTML file that needs no other.

Pictures lie within the file; there is no script, and a policy in its head forbids every request to
a network. It is written for a clinician who was not there when the program ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError
from napari_structseg.evaluation.volumes import volume_interval
from napari_structseg.exports.report.content import ReportContent
from napari_structseg.exports.report.markup import Markup, element, empty, style, words
from napari_structseg.exports.report.pictures import (
    coloured,
    grey_of,
    lines_of,
    marked,
    picture,
)
from napari_structseg.exports.report.plane import Plane, best_axis
from napari_structseg.exports.report.sheet import RULES
from napari_structseg.io.atomic import atomic_path
from napari_structseg.render.hypotheses import Hypotheses

SUFFIX = ".html"
NOT_A_DEVICE = (
    "For research. This is not a medical device and not a diagnosis: nothing here was checked by "
    "a physician, and no treatment may rest on it."
)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Shares of samples around which there is a line, and the width of the line.
_LEVELS = ((0.05, 0.7), (0.5, 1.6), (0.95, 0.7))
_MOST_MODES = 4


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Write a report, whole or not at all.

    Parameters
    ----------
    path
        Ends in .html.
    content
        What it says.

    Raises
    ------
    InputError
        If the name ends otherwise, or the system refuses.
    """
    target = Path(path)
    if target.suffix.lower() != SUFFIX:
        raise InputError(
            f"A name that ends in {SUFFIX} was expected for the report, but it is "
            f"{target.name!r}. Add {SUFFIX}."
        )
    with atomic_path(target) as temporary:
        temporary.write_text(report_html(content), encoding="utf-8")
    return target


def report_html(content: ReportContent) -> str:
    """The page as text."""
    samples = content.samples
    title = f"Segmentation of {content.image.name}"
    date = content.made.strftime("%Y-%m-%d %H:%M %Z").strip()
    head = element(
        "head",
        (
            empty("meta", charset="utf-8"),
            empty("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            empty("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            style(RULES),
        ),
    )
    body = element(
        "body",
        (
            element("header", (element("h1", title), element("span", date, class_="small"))),
            element("p", NOT_A_DEVICE, class_="not-a-device"),
            *_doubt(content),
            *_pictures(content),
            *_volumes(content),
            *_modes(content, samples.hypotheses()),
            *_origin(content),
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', (head, body), lang='en')}\n"


def _doubt(content: ReportContent) -> list[Markup]:
    if content.domain is None or not content.domain.is_outside:
        return []
    return [element("p", content.domain.message, class_="doubt", role="alert")]


def _planes(content: ReportContent) -> tuple[Plane, Plane]:
    """The whole slice, and the part of it that is looked at more closely."""
    samples = content.samples
    axis = best_axis(content.image)
    plane = Plane.of(content.image, axis, samples.position(axis))
    mask = marked(samples.shown[plane.region], samples.frequency(plane.region))
    return plane, plane.around(mask)


def _pictures(content: ReportContent) -> list[Markup]:
    plane, near = _planes(content)
    samples = content.samples
    is_cropped = near is not plane
    grey = grey_of(near, content.window)
    labels = near.upright(samples.shown[near.region])
    figures = [
        _figure(
            picture(
                plane,
                grey_of(plane, content.window),
                "The image",
                boxes=[near] if is_cropped else [],
            ),
            f"The image, {plane.words}{'; the box is shown beside it' if is_cropped else ''}.",
        ),
        _figure(
            picture(near, coloured(grey, labels, content.classes), "The segmentation"),
            f"The segmentation: {content.shown}.",
        ),
    ]
    if len(samples):
        shares = np.stack([near.upright(one) for one in samples.frequency(near.region)])
        figures.append(
            _figure(
                picture(near, grey, "Contours", lines=lines_of(shares, content.classes, _LEVELS)),
                f"How sure the outline is: inside the thick line a class is in half of "
                f"{len(samples)} samples; inside the outer thin line in 5 %, inside the inner one "
                "in 95 %.",
            )
        )
    return [
        element("h2", "Image and segmentation"),
        element("div", tuple(figures), class_="row"),
        element("p", tuple(_legend(content)), class_="small"),
    ]


def _legend(content: ReportContent) -> list[Markup]:
    there = _present(content)
    pieces = []
    for label in there:
        one = content.classes[label]
        pieces += [_swatch(one.color), words(f"{one.name}   ")]
    return pieces


def _present(content: ReportContent) -> list[int]:
    """Foreground classes that are anywhere; all of them where none is."""
    samples = content.samples
    anywhere = samples.shown_sizes + samples.sizes.sum(axis=0)
    foreground = range(1, len(content.classes))
    return [label for label in foreground if anywhere[label] > 0] or list(foreground)


def _volumes(content: ReportContent) -> list[Markup]:
    samples, is_known = content.samples, len(content.samples) > 0
    what = "Areas" if samples.unit == "mm²" else "Volumes"
    heads = ["Class", f"Shown ({samples.unit})"]
    if is_known:
        heads += ["Mean of samples", "90 % interval", ""]
    rows = []
    for label in _present(content):
        one = content.classes[label]
        cells = [
            element("td", (_swatch(one.color), words(one.name))),
            element("td", _size(samples.shown_sizes[label])),
        ]
        if is_known:
            sizes = samples.sizes[:, label]
            low, high = volume_interval(sizes)
            cells += [
                element("td", _size(float(sizes.mean()))),
                element("td", f"{_size(low)} to {_size(high)}"),
                element(
                    "td", (_bar(sizes, float(samples.shown_sizes[label]), one.color),), class_="bar"
                ),
            ]
        rows.append(element("tr", tuple(cells)))
    note = (
        f"The interval holds 90 % of {len(samples)} samples of the model: how unsure the model "
        "itself is. It says nothing of errors that the model does not know of."
        if is_known
        else "No samples were drawn: nothing is known of how sure the model is."
    )
    head = element("tr", tuple(element("th", one) for one in heads))
    return [
        element("h2", what),
        element("table", (element("thead", (head,)), element("tbody", tuple(rows)))),
        element("p", note, class_="small"),
    ]


def _bar(sizes: npt.NDArray[np.float64], shown: float, colour: str) -> Markup:
    """Interval, median and what is shown, from 0 to the largest."""
    low, high = volume_interval(sizes)
    most = max(float(sizes.max()), shown) or 1.0
    place = [f"{100 * value / most:.1f}" for value in (low, high, shown)]
    width = f"{max(100 * (high - low) / most, 0.8):.1f}"
    return element(
        "svg",
        (
            empty("rect", x="0", y="5", width="100", height="1", fill="#98a2b3"),
            empty(
                "rect",
                x=place[0],
                y="2",
                width=width,
                height="7",
                fill=colour,
                stroke="#1b1f24",
                stroke_width="0.5",
            ),
            empty("rect", x=place[2], y="0", width="1", height="11", fill="#1b1f24"),
        ),
        viewBox="0 0 101 11",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{_size(low)} to {_size(high)}, shown {_size(shown)}",
    )


def _modes(content: ReportContent, found: Hypotheses | None) -> list[Markup]:
    if found is None:
        return []
    samples = content.samples
    _, near = _planes(content)
    grey = grey_of(near, content.window)
    figures = []
    for mode in found.modes[:_MOST_MODES]:
        labels = near.upright(samples.read(mode.representative, near.region))
        low, high = mode.frequency_interval()
        median = float(np.median(mode.volumes_ml.sum(axis=1)))
        figures.append(
            _figure(
                picture(near, coloured(grey, labels, content.classes), mode.name),
                f"{mode.name}: {len(mode.samples)} of {mode.of} samples "
                f"({100 * low:.0f} to {100 * high:.0f} %). All classes together "
                f"{_size(median)} {samples.unit}; shown is sample {mode.representative}.",
            )
        )
    more = len(found.modes) - len(figures)
    alike = "The samples are all much alike: there is one hypothesis."
    several = (
        "The samples fall into groups that are much alike. Each picture is the sample in the "
        "middle of its group, with the share of the samples and the 95 % confidence interval of "
        "that share."
    )
    note = alike if len(found.modes) == 1 else several
    if more:
        note += f" {more} more are not shown."
    return [
        element("h2", "Hypotheses"),
        element("p", note, class_="small"),
        element("div", tuple(figures), class_="row modes"),
    ]


def _model(content: ReportContent) -> list[tuple[str, str]]:
    model, domain = content.model, content.domain
    if model is None:
        return []
    if domain is None:
        serves = "not checked: the model does not say what images it was made for"
    else:
        serves = "no, see above" if domain.is_outside else "yes, by what it says of itself"
    return [
        ("Model", f"{model.name}. {model.description}"),
        ("Trained on", model.data),
        ("Licence", model.licence),
        ("Made for such images", serves),
    ]


def _origin(content: ReportContent) -> list[Markup]:
    made = [_pairs([*_model(content), *content.facts])]
    if content.command:
        made.append(element("p", (element("code", content.command),)))
    return [element("h2", "Model, and how this was made"), *made]


def _pairs(rows: Sequence[tuple[str, str]]) -> Markup:
    pairs = [
        element("tr", (element("th", name), element("td", value))) for name, value in rows if value
    ]
    return element("table", (element("tbody", tuple(pairs)),), class_="pairs")


def _figure(shown: Markup, caption: str) -> Markup:
    return element("figure", (shown, element("figcaption", caption)))


def _swatch(colour: str) -> Markup:
    return element("span", "", class_="swatch", style=f"background:{colour}")


def _size(value: float) -> str:
    """Three digits; whole numbers, as voxels are counted, as they are."""
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
