"""Codes for classes: those of SNOMED CT where a name is known, otherwise a private one."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

# Private code sets begin with 99 (DICOM PS3.16, 8.2).
PRIVATE_SCHEME = "99STRUCTSEG"
# A code value (SH) and a meaning (LO) may be so long.
_VALUE_LENGTH, MEANING_LENGTH = 16, 64
_NOT_ALLOWED = re.compile(r"[\x00-\x1f\\]+")


class Concept(NamedTuple):
    """A coded concept."""

    value: str
    scheme: str
    meaning: str


TISSUE = Concept("85756007", "SCT", "Tissue")
ANATOMY = Concept("91723000", "SCT", "Anatomical Structure")
ABNORMAL = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
SUBSTANCE = Concept("91720002", "SCT", "Body Substance")

# Names without case, blanks for dashes. Category and type, from context groups 7150 and 7151.
_KNOWN: dict[str, tuple[Concept, Concept]] = {
    "grey matter": (TISSUE, Concept("389081007", "SCT", "Gray Matter")),
    "white matter": (TISSUE, Concept("389080008", "SCT", "White Matter")),
    "csf": (SUBSTANCE, Concept("65216001", "SCT", "Cerebrospinal Fluid")),
    "cerebrospinal fluid": (SUBSTANCE, Concept("65216001", "SCT", "Cerebrospinal Fluid")),
    "brain": (ANATOMY, Concept("12738006", "SCT", "Brain")),
    "ventricles": (ANATOMY, Concept("35764002", "SCT", "Brain ventricle")),
    "hippocampus": (ANATOMY, Concept("5366008", "SCT", "Hippocampus")),
    "amygdala": (ANATOMY, Concept("4958002", "SCT", "Amygdala")),
    "heart": (ANATOMY, Concept("80891009", "SCT", "Heart")),
    "liver": (ANATOMY, Concept("10200004", "SCT", "Liver")),
    "lung": (ANATOMY, Concept("39607008", "SCT", "Lung")),
    "kidney": (ANATOMY, Concept("64033007", "SCT", "Kidney")),
    "left ventricle": (ANATOMY, Concept("87878005", "SCT", "Left ventricle")),
    "lesion": (ABNORMAL, Concept("52988006", "SCT", "Lesion")),
    "mass": (ABNORMAL, Concept("4147007", "SCT", "Mass")),
    "edema": (ABNORMAL, Concept("79654002", "SCT", "Edema")),
    "tumor": (ABNORMAL, Concept("108369006", "SCT", "Tumor")),
}
_SPELLINGS = {"gray matter": "grey matter", "oedema": "edema", "tumour": "tumor"}


def codes_of(name: str) -> tuple[Concept, Concept]:
    """Category and type of a class, for Segmented Property Category and Type.

    A name that is not known has a private code, which is the same for the same name everywhere,
    and its name as the meaning.
    """
    plain = " ".join(re.split(r"[\s_-]+", name.strip().lower()))
    known = _KNOWN.get(_SPELLINGS.get(plain, plain))
    if known is not None:
        return known
    value = hashlib.sha256(plain.encode("utf-8")).hexdigest()[:_VALUE_LENGTH].upper()
    return ANATOMY, Concept(value, PRIVATE_SCHEME, as_text(name) or "unnamed")


def as_text(text: str, length: int = MEANING_LENGTH) -> str:
    """Text as a value of DICOM can hold it: without backslashes and control characters."""
    return " ".join(_NOT_ALLOWED.sub(" ", text).split())[:length].strip()
