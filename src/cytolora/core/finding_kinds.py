"""Kinds of findings by code: what each means, how grave it is, and its cure; ``docs/findings.md`` shows the same."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
"""error: `fit` and `run` refuse it, too. warning: somebody should look at it. note: to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingKind:
    """One kind of finding; its code never changes its meaning."""

    code: str
    name: str
    severity: Severity
    meaning: str
    cure: str


def _kinds(letter: str, *rows: tuple[int, str, Severity, str, str]) -> dict[str, FindingKind]:
    return {
        f"{letter}{number}": FindingKind(
            code=f"{letter}{number}", name=name, severity=severity, meaning=meaning, cure=cure
        )
        for number, name, severity, meaning, cure in rows
    }


PIXELS = _kinds(
    "P",
    (
        *(101, "cannot-read", "warning"),
        "A file is named like an image and cannot be read as one.",
        "Save it again as 8-bit PNG, or remove it; `fit` leaves it out, `predict` gives it a row with an error.",
    ),
    (
        *(102, "small-used-range", "warning"),
        "Images use less than a quarter of the values that their bit depth allows: they come out nearly black.",
        "A camera of 12 bits writes 0 to 4,095 into 16-bit files: read them with `--value-range used`, or save 8 bits.",
    ),
    (
        *(103, "converted", "note"),
        "Images that are not 8-bit RGB (16-bit, gray, palette, CMYK, transparency) are converted.",
        "Nothing, where the conversion named is the right one.",
    ),
    (
        *(104, "several-frames", "error"),
        "A file holds several frames (focal planes, channels, pages) and nothing says which is meant.",
        "Choose with `--frame N`, `middle`, `sharpest` or `max`, or save one frame a file.",
    ),
    (
        *(105, "no-content", "warning"),
        "An image has one colour, or light that changes smoothly, and noise: there is no cell on it.",
        "Remove it; `predict` always refers such an image to a person.",
    ),
    (
        *(106, "fully-transparent", "error"),
        "Every pixel of an image is transparent.",
        "Save it without an alpha channel; its colours cannot be trusted as they are.",
    ),
    (
        *(107, "colour-profile", "note"),
        "An image carries an ICC colour profile, which is not applied.",
        "`--icc srgb` converts such images to sRGB; encoders were trained on images whose profiles were ignored.",
    ),
    (
        *(109, "class-differs", "warning"),
        "Images of one class differ from those of the others in colours, compression, size or brightness.",
        "A classifier would learn the camera, not the cell: record all classes alike, or test on new slides.",
    ),
)

FILES = _kinds(
    "F",
    (
        *(201, "not-read", "warning"),
        "Images that are not read, by their suffix or content (AVIF, DICOM, .tif.gz, .npy, …), lie in the folder.",
        "Convert them to PNG, give them their suffix, or move them away; `predict` gives each a row with an error.",
    ),
    (
        *(202, "masks", "warning"),
        "Files are masks of images beside them, by their name, their size and their few colours, or drawings over them "
        "(overlay, gradcam, contours), by name and size, and are left out.",
        "Nothing, where they are masks; rename a cell that is none, and take masks out of a table that lists them.",
    ),
    (
        *(203, "deeper-images", "warning"),
        "A class folder holds images and sub-folders with more images, which are left out.",
        "Move them up, or list all images in a table (manifest.csv).",
    ),
    (
        *(204, "outside-classes", "warning"),
        "Images outside the class folders, that no table lists, or without a label in a file of images, are left out.",
        "Move them into a class, or list them.",
    ),
    (
        *(205, "table-not-read", "warning"),
        "A table beside the images is not read.",
        "Name it as the dataset, or call it manifest.csv; save a workbook as CSV UTF-8 first.",
    ),
    (
        *(206, "link", "warning"),
        "A symbolic link leads nowhere, in a circle, or to an image that is read already: each is read once.",
        "Remove the link; one that leads nowhere needs its file.",
    ),
    (
        *(207, "published-counts", "warning"),
        "A published dataset has other counts than published, and more images of a class or subset.",
        "Read the official download; other images give other numbers than the literature's.",
    ),
    (
        *(208, "class-in-several-folders", "warning"),
        "One class is read from several folders, which may hold copies.",
        "Keep one of them.",
    ),
    (
        *(209, "class-not-in-subset", "warning"),
        "A class has images, but none in a subset where others have some.",
        "Add images of the class, or divide again with `cytolora split`.",
    ),
    (
        *(210, "layout", "note"),
        "Which reader was taken for the data, and by what evidence.",
        "`--dataset NAME` takes another (`cytolora ls datasets`).",
    ),
    (
        *(211, "other-files", "note"),
        "Files that are no images, and no leftovers of a system, lie in the folder and are not read.",
        "Nothing, where they do not say what the images show.",
    ),
    (
        *(212, "slide-pictures", "warning"),
        "Thumbnails, macro or label pictures of slides lie beside the images, and are left out.",
        "Move them away; rename a cell that is none.",
    ),
    (
        *(213, "classes-like-groups", "warning"),
        "Class folders are named by codes or numbers, like patients, slides or fields.",
        "List the images in a table manifest.csv (path,label,group); `--dataset folder` takes the folders for classes.",
    ),
    (
        *(214, "not-in-table", "note"),
        "Images stand among those of the table that was named, and neither it nor a table beside it lists them.",
        "Nothing, where they are not meant; else list them.",
    ),
    (
        *(215, "part-of-dataset", "note"),
        "A published dataset has fewer images than published, and of no class or subset more.",
        "Complete the download if all of it is meant; a part of it gives other numbers than the literature's.",
    ),
)

TABLES = _kinds(
    "T",
    (
        *(301, "column-not-used", "note"),
        "A column of a table is not used.",
        "`--group-column` or `--subset-column` take a column of another name.",
    ),
    (
        *(302, "normalised", "note"),
        "Labels, groups, paths or metadata were written in several forms of the same text, and count as one.",
        "Nothing; correct the table where they are not the same.",
    ),
)

LABELS = _kinds(
    "L",
    (
        *(401, "similar-labels", "warning"),
        "Classes differ only by case, blanks, dashes, underscores, Unicode form, zeros or number form (1, 1.0).",
        "Make them one with a label map (`--map`), or rename them.",
    ),
    (
        *(402, "similar-groups", "warning"),
        "Groups differ only by case, leading zeros, number form (7, 7.0), dashes or blanks, and count as one.",
        "Write each group in one form; give those that are several names that differ by more.",
    ),
    (
        *(403, "missing-label", "warning"),
        "A class is named like a missing value (nan, NA, none, null, …).",
        "Remove the rows, or name the class.",
    ),
    (
        *(404, "small-class", "error"),
        "A class has too few images or groups to stand in train, val and test.",
        "Add images, or merge classes with a label map (`--map`).",
    ),
    (
        *(405, "one-class", "error"),
        "There is one class only.",
        "A classifier tells two or more apart: add images of another class.",
    ),
    (
        *(406, "missing-group", "warning"),
        "Groups are named like a missing value (nan, NA, -, unknown, …), and count as not known.",
        "Name the patient, slide or field of these images, or leave the cells empty.",
    ),
    (
        *(407, "rounded-group", "warning"),
        "Groups are numbers that a spreadsheet has rounded (2.02411E+11): several patients may have become one.",
        "Export the table again with the column as text; the digits are lost in this one.",
    ),
    (
        *(408, "coarser-groups", "warning"),
        "A column of a table (patient_id) holds together what the column `group` divides: a split may tear it.",
        "Take it with `--group-column`, or remove it where it is of no concern.",
    ),
    (
        *(409, "reserved-name", "error"),
        "A class is named like a column of the tables of predictions.",
        "Rename the class with a label map (`--map`).",
    ),
    (
        *(410, "left-out-by-map", "note"),
        "The label map of a pool leaves classes of a dataset out: no category fits, or no source says which.",
        "Nothing, or give a label map of your own (`--pool MAP.yaml`).",
    ),
    (
        *(411, "joined-by-map", "note"),
        "The label map of a pool joins classes of a dataset, which are told apart no more.",
        "Nothing, or give a label map of your own (`--pool MAP.yaml`).",
    ),
    (
        *(412, "pool-divided-anew", "note"),
        "Official subsets of some datasets of a pool are not used, for others have none.",
        "Nothing, or leave a dataset out whole: `--leave-out dataset=NAME`.",
    ),
    (
        *(413, "own-column-replaced", "warning"),
        "A metadata column `dataset` of a dataset of a pool is not kept: the pool's own stands in its place.",
        "Have the reader of the dataset (a plug-in) call the column otherwise, such as `source`.",
    ),
)

DIVISION = _kinds(
    "D",
    (
        *(501, "equal-pixels", "warning"),
        "Images have equal pixels.",
        "Keep one of each; `fit` does so by itself.",
    ),
    (
        *(502, "near-duplicates", "warning"),
        "Images resemble each other and no group holds them together.",
        "Look at them with `--page`; give those of one cell or field one group.",
    ),
    (
        *(503, "label-conflict", "warning"),
        "Duplicates have different labels.",
        "Decide for one label, or remove the image.",
    ),
    (
        *(504, "duplicates-across", "warning"),
        "Duplicates stand in more than one subset: the answer is known.",
        "Divide again with `cytolora split`, or remove the copies.",
    ),
    (
        *(505, "group-leakage", "warning"),
        "A patient, slide or field has images in more than one subset.",
        "Divide by group: `cytolora split --by group`.",
    ),
    (
        *(506, "groups-unknown", "note"),
        "Nobody can tell which images come from one patient, slide or field.",
        "Name the groups in a table (manifest.csv with path,label,group).",
    ),
    (
        *(507, "copies-torn", "warning"),
        "Byte-equal files stand in more than one subset: the answer is known.",
        "Divide with `cytolora split`, which binds copies, or write `split: {copies: together}` into the grid.",
    ),
    (
        *(508, "split-by-image", "warning"),
        "Images were divided without regard to the patients, slides or fields that they come from.",
        "Divide by group: `cytolora split --by group`, with the groups named in a table.",
    ),
    (
        *(509, "cannot-divide", "error"),
        "Images cannot be divided into train, val and test: some have a subset and others none, or one is missing.",
        "Give every image a subset, or none; `cytolora split` writes a division.",
    ),
    (
        *(510, "corrected-test-labels", "warning"),
        "Labels of test images were corrected with a prediction in sight: results are too good.",
        "Correct labels of training images only, or test on new images.",
    ),
    (
        *(511, "groups-suspected", "warning"),
        "File names name slides, it seems, and images that would come from one are more alike than others of a class.",
        "Accept with `--groups-from names`, refuse with `--groups-from none`, or say it with `--groups-from 'REGEX'`.",
    ),
    (
        *(512, "groups-refused", "note"),
        "Groups from file names were refused with `--groups-from none`: groups are unknown.",
        "Nothing, where the images come from as many patients, slides or fields; else `--groups-from names`.",
    ),
    (
        *(513, "class-not-drawn", "note"),
        "A draw in natural prevalence holds no training image of a class: it can hardly be predicted.",
        "Give more shots, or draw as many of every class: `--sampling per_class`.",
    ),
    (
        *(514, "near-duplicates-not-listed", "warning"),
        "More pairs of images resemble each other than anybody can look at: only the nearest are listed and compared.",
        "Keep one image of each scene (frames of a video, augmented copies), or give those of one scene one group.",
    ),
    (
        *(515, "cells-chosen", "note"),
        "Cells of a table were chosen while labelling (`cytolora label`); its test cells were drawn at random.",
        "Nothing; keep its test cells, and take thresholds and prediction sets, which rest on chosen cells, for rough.",
    ),
    (
        *(516, "chosen-cells-tested", "warning"),
        "Cells that were chosen while labelling (`cytolora label`), for they were difficult, may come into a test set.",
        "Label drawn cells of the test share in the project and fit that, or test on cells that were drawn at random.",
    ),
)

WEIGHTS = _kinds(
    "W",
    (
        *(601, "config-contradicts", "warning"),
        "A configuration beside the weights names other values than the backbone's entry.",
        "Use the entry that the weights belong to; `--trust-weights` goes on with the entry as it is.",
    ),
    (
        *(602, "config-not-read", "note"),
        "A configuration beside the weights is damaged, or of another model: the entry is compared with nothing there.",
        "Copy it again, or move it away from the weights.",
    ),
    (
        *(603, "config-interpolates-otherwise", "note"),
        "A configuration beside the weights names another interpolation than the backbone's entry.",
        "Nothing; features differ slightly from those of a library that resizes as the configuration says.",
    ),
)

SLIDES = _kinds(
    "S",
    (
        *(701, "not-a-cell", "warning"),
        "Objects of the file of cells are no cells (annotations, lines, regions), and are left out.",
        "Export detections only, where these were meant to be cells.",
    ),
    (
        *(702, "other-slide", "warning"),
        "Rows of the table of cells belong to another slide, and are left out.",
        "Export the cells of one slide, or predict each slide with the same table.",
    ),
    (
        *(703, "several-planes", "warning"),
        "A slide has several focal planes, channels or scenes, of which one is read.",
        "Choose with `--plane`.",
    ),
    (
        *(704, "no-position", "warning"),
        "Objects of the file of cells have no readable position, and are left out.",
        "Correct them in the program that wrote the file.",
    ),
    (
        *(705, "annotations-as-cells", "warning"),
        "A file of cells holds no detections, and its small annotations and points are taken for the cells.",
        "Nothing, where they were drawn round cells; else export the detections.",
    ),
    (
        *(706, "plane-not-read", "warning"),
        "Cells name a focal plane that the slide does not have, or that cannot be read; another one is read.",
        "Give the slide with all its planes, or one whose planes can be read (OME-TIFF without JPEG compression).",
    ),
    (
        *(707, "repeated-cells", "warning"),
        "Objects of the file of cells repeat the id and position of another, and are left out.",
        "Nothing, where the file was put together twice; else give every cell its own id.",
    ),
    (
        *(708, "slide-not-named", "warning"),
        "Rows of the table of cells name images by number or by their crops, so that nobody can tell the slide.",
        "Nothing, where all cells are of this slide; else keep its rows alone, or write its file name in them.",
    ),
    (
        *(709, "parts-of-cells", "warning"),
        "Cells of QuPath hold objects (childObjects), which are taken for their parts and are not predicted.",
        "Nothing, where these are nuclei or spots; else export the detections by themselves, without their parents.",
    ),
    (
        *(710, "nested-objects", "note"),
        "Annotations hold objects (childObjects): these are read and written as if beside them.",
        "Nothing; QuPath nests them again with Objects > Resolve hierarchy.",
    ),
    (
        *(711, "cell-not-read", "warning"),
        "Cells lie outside the slide, or where its file is damaged: each gets a row with an error and no class.",
        "Name the slide that they belong to; copy a damaged one again.",
    ),
    (
        *(712, "not-transductive", "note"),
        "A slide keeps the classifier's own answer: its cells do not show that a second class is present.",
        "Nothing; class and probabilities of either answer are equal.",
    ),
    (
        *(713, "sets-withheld", "note"),
        "No prediction sets stand beside the transductive answer: a class has too few held-out patients or slides.",
        "Fit with more of them; the sets of the classifier's own answer are as always.",
    ),
    (
        *(714, "slide-not-predicted", "warning"),
        "A slide of several cannot be opened, or its positions cannot be used: it has no rows, and the others have.",
        "Mend the slide or its positions and start the same command again: all other slides are kept.",
    ),
)

NUMBERS = _kinds(
    "N",
    (
        *(801, "wrong-attention", "warning"),
        "A setting was computed with the wrong attention of the paper's public code, to measure its effect.",
        "Nothing, where the effect is what you look for; it is no result of the model.",
    ),
    (
        *(802, "other-preset", "note"),
        "A setting has views, augmentation, steps or models that are not those of the paper's text.",
        "Compare settings of one preset.",
    ),
    (
        *(803, "budget-cut", "warning"),
        "The budget of training was cut: a dry run.",
        "Run the grid again without `--steps`.",
    ),
    (
        *(804, "ends-in-warm-up", "warning"),
        "Training ends before its learning rate has warmed up: it cannot have learned.",
        "Give the budget more steps than `warmup_steps`, or a shorter warm-up.",
    ),
    (
        *(805, "one-class-named", "warning"),
        "A classifier names one class for every image.",
        "Train longer, or with other learning rates; its accuracy is the frequency of that class.",
    ),
    (
        *(806, "loss-did-not-fall", "warning"),
        "The training loss ended no lower than that of guessing all classes alike.",
        "Train longer, or with other learning rates.",
    ),
    (
        *(807, "diverged", "note"),
        "Training diverged at a learning rate, which did not compete.",
        "Nothing, where lower rates were tried.",
    ),
    (
        *(808, "rate-at-the-edge", "warning"),
        "The chosen learning rate is the lowest or highest that was tried: a wider grid may do better.",
        "Add rates beyond it (`--rates`) before the setting is compared with others.",
    ),
    (
        *(809, "retested", "warning"),
        "The test set was scored at more than one learning rate.",
        "Run the grid again, which leaves one test score; or test on new images.",
    ),
    (
        *(810, "images-repeated", "warning"),
        "A class has fewer training images than were asked for: some were drawn again.",
        "Ask for fewer shots, or add images.",
    ),
    (
        *(811, "few-groups", "warning"),
        "An interval rests on few patients, slides, fields or images, and may be too narrow.",
        "Test on more of them.",
    ),
    (
        *(812, "few-mistakes", "warning"),
        "Few patients, slides, fields or images hold a mistake: the interval rests on little, or on a model.",
        "Test on more of them.",
    ),
    (
        *(813, "no-rate-chosen", "warning"),
        "No learning rate was run with all seeds without diverging.",
        "Run the grid again, which does what is missing, or add lower rates.",
    ),
    (
        *(814, "not-tested", "note"),
        "The test set is not scored yet.",
        "Run the grid again, which does what is missing.",
    ),
    (
        *(815, "some-seeds-only", "warning"),
        "The test set is scored for some of the seeds only.",
        "Run the grid again, which does what is missing.",
    ),
    (
        *(816, "computed-in-int8", "note"),
        "Features were computed in int8, which differ a little from those in fp32 (docs/performance.md).",
        "Nothing; leave out `--precision int8` where the speed is not needed.",
    ),
    (
        *(817, "other-precision", "warning"),
        "A classifier computes features in another precision than those that it was fitted to.",
        "Leave out `--precision`; or fit in this precision.",
    ),
    (
        *(841, "class-is-its-source", "warning"),
        "The patients, slides or fields of a class hold no other class, while those of other classes are mixed.",
        "Add cells of other classes from the same slides, or of this class from mixed ones; its scores show nothing.",
    ),
    (
        *(842, "image-split-inflates", "note"),
        "The same head scores higher when images of one patient, slide or field are trained and tested on.",
        "Divide by group (`cytolora split --by group`), and report the numbers of that division.",
    ),
    (
        *(843, "copies-inflate", "warning"),
        "Near-duplicates in different groups make scores of a division by group too high.",
        "Remove the copies, or give both groups one name (`cytolora check --page` shows them).",
    ),
    (
        *(844, "source-readable", "note"),
        "Patient, slide, scanner or site can be read from the features beside the class.",
        "Test on new sources; compare the features before and after adaptation (`cytolora leakage --bundle`).",
    ),
)
"""Marks of results."""

EVERY_DATASET = frozenset({"F210"})
"""Notes on any dataset, whatever its state."""

KINDS: dict[str, FindingKind] = PIXELS | FILES | TABLES | LABELS | DIVISION | WEIGHTS | SLIDES | NUMBERS
