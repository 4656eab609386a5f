"""Stages whose result is time and memory: each job has the machine to itself."""

BENCHMARK_CELL = f"{ROOT}/{{run}}/{{cell}}@{{key}}.zarr.zip"


rule benchmark:
    input:
        inputs(BENCHMARK_CELL),
    output:
        BENCHMARK_CELL,
    wildcard_constraints:
        run=atlas_workflow.runs(ATLAS, "benchmark"),
        cell=CELL,
        key=KEY,
    log:
        f"{ROOT}/logs/{{run}}/{{cell}}@{{key}}.log",
    params:
        settings=SETTINGS,
        reason=reason(BENCHMARK_CELL),
    threads: workflow.cores
    resources:
        mem_mb=resource(BENCHMARK_CELL, "mem_mb"),
        runtime=resource(BENCHMARK_CELL, "runtime"),
        gpu=resource(BENCHMARK_CELL, "gpu"),
    message:
        "benchmark {wildcards.run} {wildcards.cell} ({params.reason})"
    shell:
        JOB
