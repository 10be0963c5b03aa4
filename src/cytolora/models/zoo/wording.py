"""What text towers are asked: templates, and plain words for the labels of datasets. Imports nothing."""

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
    "mlcc": {
        "HSIL": "high-grade squamous intraepithelial lesion",
        "LSIL": "low-grade squamous intraepithelial lesion",
        "NL": "negative for intraepithelial lesion or malignancy",
        "SCC": "squamous cell carcinoma",
    },
    "bcfc": {"malignant": "malignant breast", "benign": "benign breast"},
    "synthetic": {
        "normal": "normal squamous",
        "koilocytic": "koilocytotic squamous",
        "lsil": "low-grade dysplastic squamous",
        "hsil": "high-grade dysplastic squamous",
        "glandular": "glandular",
    },
}
"""Per dataset and label; what fits between "a" and "cell"."""


def prompts(dataset: str, classes: Iterable[str], templates: Iterable[str] = TEMPLATES) -> dict[str, list[str]]:
    """Returns the wordings of every class; a label without words of its own stands for itself."""
    words, templates = WORDS.get(dataset.partition(":")[0], {}), list(templates)
    return {
        label: [template.format(words.get(label, label.replace("_", " "))) for template in templates]
        for label in classes
    }
