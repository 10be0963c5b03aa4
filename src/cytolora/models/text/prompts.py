"""Text prompts for zero-shot classification: templates, and plain words for class labels. Imports nothing."""

from collections.abc import Iterable, Mapping

PAPER_TEMPLATE = "A cytological slide showing a {} cell"
"""The wording of the paper's public code."""

TEMPLATES = (
    PAPER_TEMPLATE,
    "a photomicrograph of a {} cell",
    "a Pap smear image showing a {} cell",
    "cytology of a {} cell",
    "a microscope image of a {} cell",
)
"""An ensemble; every template is filled with the words of a class and the embeddings are averaged."""

_BLOOD = (
    *("basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte"),
    *("monocyte", "neutrophil", "platelet"),
)
_BETHESDA = {
    "NILM": "negative for intraepithelial lesion or malignancy",
    "ASC-US": "atypical squamous of undetermined significance",
    "ASC-H": "atypical squamous, high-grade squamous intraepithelial lesion not excluded,",
    "LSIL": "low-grade squamous intraepithelial lesion",
    "HSIL": "high-grade squamous intraepithelial lesion",
    "SCC": "squamous cell carcinoma",
}
"""The Bethesda system, as HiCervix's hierarchy_names.csv spells its abbreviations out."""

_POOLED = {
    "AGC-NOS": "atypical glandular, not otherwise specified,",
    "AGC-FN": "atypical glandular, favouring neoplastic,",
    "AIS": "endocervical adenocarcinoma in situ",
    "ADC": "adenocarcinoma",
    "ECA": "abnormal epithelial",
    "ND": "non-diagnostic",
    "NFM": "negative for malignancy",
    "AUS": "atypical, of undetermined significance,",
    "SFM": "suspicious for malignancy",
    "MAL": "malignant",
    "UNSAT": "nondiagnostic or unsatisfactory",
    "NHGUC": "negative for high-grade urothelial carcinoma",
    "AUC": "atypical urothelial",
    "SHGUC": "suspicious for high-grade urothelial carcinoma",
    "HGUC": "high-grade urothelial carcinoma",
    "NN": "non-neoplastic",
    "NB": "benign neoplastic",
    "SUMP": "salivary gland neoplastic, of uncertain malignant potential,",
    "SM": "suspicious for malignancy",
    "M": "malignant",
}
"""The categories of the label maps that come with the package, beyond those six."""

WORDS: Mapping[str, Mapping[str, str]] = {
    "herlev": {
        "normal_superficiel": "normal superficial squamous epithelial",
        "normal_intermediate": "normal intermediate squamous epithelial",
        "normal_columnar": "normal columnar epithelial",
        "light_dysplastic": "mildly dysplastic squamous",
        "moderate_dysplastic": "moderately dysplastic squamous",
        "severe_dysplastic": "severely dysplastic squamous",
        "carcinoma_in_situ": "squamous carcinoma in situ",
    },
    "sipakmed": {
        "Dyskeratotic": "dyskeratotic squamous",
        "Koilocytotic": "koilocytotic squamous",
        "Metaplastic": "benign metaplastic squamous",
        "Parabasal": "normal parabasal squamous",
        "Superficial-Intermediate": "normal superficial or intermediate squamous",
    },
    "mlcc": {**{label: _BETHESDA[label] for label in ("HSIL", "LSIL", "SCC")}, "NL": _BETHESDA["NILM"]},
    "hicervix": {
        **{label: words for label, words in _BETHESDA.items() if label != "NILM"},
        "Normal": "normal",
        "ECC": "endocervical",
        "RPC": "repair",
        "MPC": "metaplastic",
        "PG": "pseudokoilocytic, glycogenated",
        "Atrophy": "atrophic",
        "EMC": "endometrial",
        "HCG": "hyperchromatic crowded group",
        "AGC": "atypical glandular",
        "AGC-NOS": "atypical glandular, not otherwise specified,",
        "AGC-FN": "atypical glandular, favouring neoplastic,",
        "AGC-ECC-NOS": "atypical endocervical glandular, not otherwise specified,",
        "AGC-EMC-NOS": "atypical endometrial glandular, not otherwise specified,",
        "ADC": "adenocarcinoma",
        "ADC-ECC": "endocervical adenocarcinoma",
        "ADC-EMC": "endometrial adenocarcinoma",
        "FUNGI": "Candida fungal organism",
        "ACTINO": "Actinomyces bacteria",
        "TRI": "Trichomonas vaginalis",
        "HSV": "herpes simplex virus infected",
        "CC": "bacterial vaginosis coccobacilli",
    },
    "cric": _BETHESDA,
    "pool": {**_BETHESDA, **_POOLED},
    "bmt": {label: _BETHESDA[label] for label in ("NILM", "LSIL", "HSIL")},
    "apacc": {
        "healthy": "healthy cervical",
        "unhealthy": "abnormal cervical",
        "rubbish": "rubbish",
        "bothcells": "healthy cervical cell beside an abnormal cervical",
    },
    "bcfc": {"malignant": "malignant breast", "benign": "benign breast"},
    "fnac2019": {"malignant": "malignant breast", "benign": "benign breast"},
    "bloodmnist": {label: label for label in _BLOOD},
    "bmcd": {
        "ABE": "abnormal eosinophil",
        "ART": "artefact",
        "BAS": "basophil",
        "BLA": "blast",
        "EBO": "erythroblast",
        "EOS": "eosinophil",
        "FGC": "faggott",
        "HAC": "hairy",
        "KSC": "smudge",
        "LYI": "immature lymphocyte",
        "LYT": "lymphocyte",
        "MMZ": "metamyelocyte",
        "MON": "monocyte",
        "MYB": "myelocyte",
        "NGB": "band neutrophil",
        "NGS": "segmented neutrophil",
        "NIF": "not identifiable",
        "OTH": "other bone marrow",
        "PEB": "proerythroblast",
        "PLM": "plasma",
        "PMO": "promyelocyte",
    },
    "synthetic": {
        "normal": "normal squamous",
        "koilocytic": "koilocytotic squamous",
        "lsil": "low-grade dysplastic squamous",
        "hsil": "high-grade dysplastic squamous",
        "glandular": "glandular",
    },
}
"""Per dataset, whatever its label set, and label; what fits between "a" and "cell"."""


def prompts(dataset: str, classes: Iterable[str], templates: Iterable[str] = TEMPLATES) -> dict[str, list[str]]:
    """Returns the wordings of every class."""
    classes, templates = list(classes), list(templates)
    named = zip(classes, words_of(dataset, classes), strict=True)
    return {label: [template.format(words) for template in templates] for label, words in named}


def words_of(dataset: str, classes: Iterable[str]) -> list[str]:
    """Returns the words of each class; a label without words of its own stands for itself."""
    words = WORDS.get(dataset.partition(":")[0], {})
    return [words.get(label, label.replace("_", " ")) for label in classes]
