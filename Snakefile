"""The atlas: every declared paper from data to claims. Rules wire what config/ declares; `snakemake --cores 2` makes everything."""

from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/solve.smk"
include: "rules/benchmark.smk"
include: "rules/analysis.smk"
include: "rules/figures.smk"
include: "rules/clean.smk"


rule all:
    default_target: True
    input:
        lambda wildcards: [path for slug in ATLAS.chosen for path in ATLAS.products(slug)],
        str(ATLAS.gathered_file),


for slug in ATLAS.slugs:

    rule:
        name:
            slug
        input:
            lambda wildcards, slug=slug: ATLAS.products(slug),

    rule:
        name:
            f"{slug}_figures"
        input:
            lambda wildcards, slug=slug: ATLAS.figure_files(slug),


onsuccess:
    print_verdicts()


onerror:
    print_verdicts()
