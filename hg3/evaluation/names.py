"""What every measure is called, whether a table has it or not: what a gate may name."""

from difflib import get_close_matches

ATTACKS = ("distance", "density")
KNOWN = (
    "patients rejected",
    *("KS", "Wasserstein", "boundary adherence", "TV", "category coverage", "rare-category ratio", "missing rate"),
    *("static constancy", "association", "joint table", "subgroup coverage", "mode collapse"),
    *(f"Health Gym {kind} correlation" for kind in ("static", "trend", "cycle")),
    *("two-sample AUC, gradient boosting", "two-sample AUC, GRU"),
    *("discriminative score", "predictive score", "log-cluster"),
    *("record length", "gap share", "change rate", "transitions", "dwell times", "mask transitions"),
    *("row-to-row difference", *(f"autocorrelation, lag {lag}" for lag in range(1, 13)), "slope signs", "slopes"),
    *("TSTR AUROC", "TSTR AUPRC", "real and synthetic AUROC", "TSTR MAE"),
    *("hazard ratios", "hazard ratio intervals", "policy disagreement", "policy value"),
    *(f"membership AUC, {attack}" for attack in ATTACKS),
    *(f"membership TPR at {rate} FPR, {attack}" for attack in ATTACKS for rate in ("1%", "0.1%")),
    *("exact copies", "near copies", "nearest-neighbour adversarial accuracy loss", "share closer to training"),
    *("attribute inference", "disclosure risk", "singling out", "singling out, rare subgroups"),
)


def unknown_names(names: list[str]) -> str:
    """Return what is wrong with names that no measure has, and all that there are; empty where nothing is."""
    strange = [name for name in names if name not in KNOWN]
    if not strange:
        return ""
    meant = {name: get_close_matches(name, KNOWN, 1, 0.5) for name in strange}
    told = ", ".join(f"{name!r}" + (f" (nearest: {near[0]!r})" if near else "") for name, near in meant.items())
    return f"there is no measure {told}; there are {'; '.join(KNOWN)}"
