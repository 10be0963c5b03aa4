"""Names of the synthetic cells: classes and marker file; light, as the list of datasets loads it."""

CLASSES = ("normal", "koilocytic", "lsil", "hsil", "glandular")
"""normal: superficial and intermediate squamous cells. koilocytic: halo and wrinkled nucleus; a class of its own as in
SIPaKMeD, though Bethesda counts it among LSIL. lsil, hsil: larger, darker, coarser nuclei, ever less cytoplasm.
glandular: crowded clusters of small cells."""

MARKER = "synthetic.json"
"""Marks a folder of synthetic cells and records how they were drawn."""
