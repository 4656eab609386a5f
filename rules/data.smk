"""Raw files out of pinned packages (or from the user's own paths), and the datasets that are made from them."""

RAW = f"{ATLAS.project / ATLAS.settings.data}/raw/{{file}}"
DATASET = f"{ROOT}/data/{{dataset}}@{{key}}.zarr.zip"


rule fetch:
    output:
        RAW,
    wildcard_constraints:
        file=atlas_workflow.alternatives(ATLAS.source_of),
    log:
        f"{ROOT}/logs/raw/{{file}}.log",
    params:
        settings=SETTINGS,
    message:
        "fetch {wildcards.file}"
    shell:
        JOB


rule prepare:
    input:
        inputs(DATASET),
    output:
        DATASET,
    wildcard_constraints:
        dataset=atlas_workflow.alternatives(ATLAS.datasets),
        key=KEY,
    log:
        f"{ROOT}/logs/data/{{dataset}}@{{key}}.log",
    params:
        settings=SETTINGS,
        reason=reason(DATASET),
    message:
        "prepare {wildcards.dataset} ({params.reason})"
    shell:
        JOB
