"""Figures from a paper's analysis alone: a clone without cells redraws every one."""

FIGURE = f"{ROOT}/{{paper}}/figures/{{figure}}"


rule figure:
    input:
        inputs(FIGURE + ".json"),
        outdated=outdated(FIGURE + ".json"),
    output:
        f"{FIGURE}.json",
        report(f"{FIGURE}.svg", category="{paper}", labels={"figure": "{figure}"}),
        f"{FIGURE}.png",
        f"{FIGURE}.pdf",
    wildcard_constraints:
        paper=atlas_workflow.alternatives(ATLAS.slugs),
        figure="[a-z0-9_]+",
    log:
        f"{ROOT}/logs/{{paper}}/figures/{{figure}}.log",
    params:
        settings=SETTINGS,
    message:
        "figure {wildcards.paper} {wildcards.figure}"
    shell:
        JOB
