"""A paper's cells reduced to metrics, the metrics judged against the claims, and the claims of the run gathered."""

ANALYSIS = f"{ROOT}/{{paper}}/{{kind}}/all@{{key}}.zarr.zip"
CLAIMS = f"{ROOT}/{{paper}}/{{file}}.json"


rule analyse:
    input:
        inputs(ANALYSIS),
    output:
        ANALYSIS,
    wildcard_constraints:
        paper=atlas_workflow.alternatives(ATLAS.slugs),
        kind="analysis|benchmark",
        key=KEY,
    log:
        f"{ROOT}/logs/{{paper}}/{{kind}}/all@{{key}}.log",
    params:
        settings=SETTINGS,
        reason=reason(ANALYSIS),
    message:
        "analyse {wildcards.paper} {wildcards.kind} ({params.reason})"
    shell:
        JOB


rule judge:
    input:
        inputs(CLAIMS),
        outdated=outdated(CLAIMS),
    output:
        CLAIMS,
    wildcard_constraints:
        paper=atlas_workflow.alternatives(ATLAS.slugs),
        file="claims|benchmark",
    log:
        f"{ROOT}/logs/{{paper}}/{{file}}.log",
    params:
        settings=SETTINGS,
    message:
        "judge {wildcards.paper} {wildcards.file}"
    shell:
        JOB


rule gather:
    input:
        inputs_with_plain_names(str(ATLAS.gathered_file)),
        outdated=outdated(str(ATLAS.gathered_file)),
    output:
        str(ATLAS.gathered_file),
    log:
        f"{ROOT}/logs/claims.log",
    params:
        settings=atlas_workflow.settings_with_papers(ATLAS),
    message:
        "gather the claims of {ATLAS.chosen}"
    shell:
        JOB
