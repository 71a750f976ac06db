"""Results as DICOM, with references to the series they were made from. Needs the extra [dicom]."""
