"""What the three classes of BCCD (blood smears, Pascal VOC) are called in questions, and in which tasks they stand."""

from residency.synthesis.voc_questions import Naming

BLOOD_CLASSES = frozenset({"RBC", "WBC", "Platelets"})

BLOOD_NAMING = Naming(
    words={"RBC": "red cell", "WBC": "white cell", "Platelets": "platelet"},
    thing="cell",
    stains={"RBC": "pink", "WBC": "purple", "Platelets": "purple"},  # what the usual smear stain shows
    tasks={
        ("type", ""): "cell_type",
        ("count", "RBC"): "red_cell_count",
        ("present", "WBC"): "white_cell_present",
        ("present", "Platelets"): "platelet_present",
        ("side", "WBC"): "white_cell_side",
        ("side", "Platelets"): "platelet_side",
    },
)
