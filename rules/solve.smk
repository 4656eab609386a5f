"""Stages that solve, evaluate or prune: everything that neither trains nor is timed."""

SOLVE_CELL = f"{ROOT}/{{run}}/{{cell}}@{{key}}.zarr.zip"


rule solve:
    input:
        inputs(SOLVE_CELL),
    output:
        SOLVE_CELL,
    wildcard_constraints:
        run=atlas_workflow.runs(ATLAS, "solve"),
        cell=CELL,
        key=KEY,
    log:
        f"{ROOT}/logs/{{run}}/{{cell}}@{{key}}.log",
    params:
        settings=SETTINGS,
        reason=reason(SOLVE_CELL),
    threads: resource(SOLVE_CELL, "threads")
    resources:
        mem_mb=resource(SOLVE_CELL, "mem_mb"),
        runtime=resource(SOLVE_CELL, "runtime"),
        gpu=resource(SOLVE_CELL, "gpu"),
    message:
        "solve {wildcards.run} {wildcards.cell} ({params.reason})"
    shell:
        JOB
