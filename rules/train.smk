"""Stages that train: on GPU nodes where there are any."""

TRAIN_CELL = f"{ROOT}/{{run}}/{{cell}}@{{key}}.zarr.zip"


rule train:
    input:
        inputs(TRAIN_CELL),
    output:
        TRAIN_CELL,
    wildcard_constraints:
        run=atlas_workflow.runs(ATLAS, "train"),
        cell=CELL,
        key=KEY,
    log:
        f"{ROOT}/logs/{{run}}/{{cell}}@{{key}}.log",
    params:
        settings=SETTINGS,
        reason=reason(TRAIN_CELL),
    threads: resource(TRAIN_CELL, "threads")
    resources:
        mem_mb=resource(TRAIN_CELL, "mem_mb"),
        runtime=resource(TRAIN_CELL, "runtime"),
        gpu=resource(TRAIN_CELL, "gpu"),
    message:
        "train {wildcards.run} {wildcards.cell} ({params.reason})"
    shell:
        JOB
