"""Removal of stores, provenance and checkpoints that no declaration of this scale reaches any more."""


rule clean_stale:
    log:
        f"{ROOT}/logs/clean_stale.log",
    params:
        settings=SETTINGS,
    message:
        "remove what no declaration reaches"
    shell:
        PYTHON + " -m pipeline_lib.pipeline.clean --settings {params.settings:q} > {log:q}"


for slug in ATLAS.slugs:

    rule:
        name:
            f"clean_stale_{slug}"
        log:
            f"{ROOT}/logs/clean_stale_{slug}.log",
        params:
            settings=SETTINGS,
            slug=slug,
        message:
            "remove what the declaration of {params.slug} does not reach"
        shell:
            PYTHON + " -m pipeline_lib.pipeline.clean {params.slug:q} --settings {params.settings:q} > {log:q}"
