"""The coded concepts in the objects that the node writes.

Coding schemes: SCT is SNOMED CT, DCM is PS3.16 annex D, NCIt the NCI Thesaurus, RADLEX the RSNA's lexicon, IBSI the
Image Biomarker Standardisation Initiative, UCUM the Unified Code for Units of Measure.
"""

from pydicom.sr.coding import Code

from models.labels import (
    ADC_ABNORMALITY,
    ENHANCING_TUMOUR,
    FLAIR_HYPERINTENSITY,
    NECROTIC_CORE,
    RESECTION_CAVITY,
    TUMOUR_CORE,
    WHOLE_TUMOUR,
    Label,
)

# What a segment is (PS3.16 CID 7150, 7151)
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ENHANCING_LESION = Code("C113842", "NCIt", "Enhancing Lesion")
LESION = Code("52988006", "SCT", "Lesion")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
NECROSIS = Code("6574001", "SCT", "Necrosis")
# PS3.16 has no type for the space that a resection leaves; a designator that begins with 99 is private (PS3.3 8.2).
RESECTION_CAVITY_TYPE = Code("resection-cavity", "99GLIONODE", "Resection cavity")
BRAIN = Code("12738006", "SCT", "Brain")

# What was measured, how, and in which unit (CID 7469, 7464, 7474, 7181)
VOLUME = Code("118565006", "SCT", "Volume")
SUM_OF_SEGMENTED_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")
NUMBER_OF_LESIONS = Code("246206008", "SCT", "Number of lesions")
APPARENT_DIFFUSION_COEFFICIENT = Code("113041", "DCM", "Apparent Diffusion Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
MEDIAN = Code("373099004", "SCT", "Median")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
# IBSI has separate codes for percentiles of values without binning (QG58, 8DWT), but PS3.16 lists only these.
PERCENTILE_10 = Code("GPMT", "IBSI", "Intensity Histogram 10th Percentile")
PERCENTILE_90 = Code("OZ0C", "IBSI", "Intensity Histogram 90th Percentile")
CUBIC_CENTIMETRE = Code("cm3", "UCUM", "cubic centimeter")
NO_UNITS = Code("1", "UCUM", "no units")
THRESHOLD_VALUE = Code("122411", "DCM", "Threshold Value")
ADC_UNIT = Code("10-6.mm2/s", "UCUM", "10-6.mm2/s")

# Diameters (CID 7470), their unit (CID 7181), and by which criteria (CID 6147). Viewers built on dcmjs look for the
# meanings of both axes in exactly this spelling.
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
MILLIMETRE = Code("mm", "UCUM", "mm")
MEASUREMENT_METHOD = Code("370129005", "SCT", "Measurement Method")
RANO = Code("C114879", "NCIt", "RANO")

# Qualitative evaluations: names from CID 6333, values from CID 6335
ABNORMALITY = Code("C9440", "NCIt", "Abnormality")
FOCAL = Code("87017008", "SCT", "Focal")
MULTIFOCAL = Code("524008", "SCT", "Multifocal")
SIGNAL_CHARACTERISTIC = Code("RID6049", "RADLEX", "Signal characteristic")
T2_HYPERINTENSITY = Code("RID39467", "RADLEX", "T2 Hyperintensity")
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")

# Comments on a result (TID 1500, Qualitative Evaluations)
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = Code("121106", "DCM", "Comment")

# What a report is called (CID 7021)
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
ONCOLOGY_MEASUREMENT_REPORT = Code("126001", "DCM", "Oncology Measurement Report")

# Who and what made it (CID 7162, 7005, 100, 7452)
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
DEVICE = Code("121007", "DCM", "Device")

_TYPES = {
    ENHANCING_TUMOUR: ENHANCING_LESION,
    # No standard type means "oedema with high and tumour with intermediate ADC"; the segment's label says it.
    ADC_ABNORMALITY: LESION,
    # 79654002 SCT Edema would claim that it contains no tumour.
    FLAIR_HYPERINTENSITY: LESION,
    TUMOUR_CORE: NEOPLASM,
    # It contains oedema.
    WHOLE_TUMOUR: LESION,
    NECROTIC_CORE: NECROSIS,
    RESECTION_CAVITY: RESECTION_CAVITY_TYPE,
}


def property_type(label: Label) -> Code:
    """Return the segmented property type of a label, which is also its finding type in SR."""
    return _TYPES[label]
