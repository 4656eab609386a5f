"""What all rules share: the atlas that config/ declares, the lock, and the parts of a job's command."""

import shlex
import sys

sys.path.insert(0, workflow.basedir)

from pipeline_lib.pipeline import workflow as atlas_workflow
from pipeline_lib.pipeline.atlas import settings_from
from pipeline_lib.pipeline.strict_yaml import DeclarationError, load
from snakemake.exceptions import WorkflowError

try:
    ATLAS = atlas_workflow.declared(config, validate=workflow.is_main_process)
    if workflow.is_main_process and not workflow.output_settings.dryrun:
        LOCK = atlas_workflow.lock(ATLAS)
except DeclarationError as error:
    raise WorkflowError(str(error))

ROOT = str(ATLAS.root)
KEY = "[0-9a-f]{12}"
CELL = "[A-Za-z0-9_.+~/-]+"
PYTHON = "python" if workflow.deployment_settings.deployment_method else shlex.quote(sys.executable)
JOB = PYTHON + " -m pipeline_lib.pipeline.job {output[0]:q} --settings {params.settings:q} --log {log:q}"
SETTINGS = ATLAS.settings.as_json()


def inputs(pattern):
    """The input function of an output pattern: stores whose key is in their name, whatever their file times."""
    return lambda wildcards: ancient(atlas_workflow.inputs(ATLAS, pattern.format(**wildcards)))


def inputs_with_plain_names(pattern):
    """The same for inputs with plain names: one that is made again in this run is not ancient, or Snakemake would not look at what follows from it."""
    return lambda wildcards: [
        ancient(path) if atlas_workflow.is_current(ATLAS, path) else path
        for path in atlas_workflow.inputs(ATLAS, pattern.format(**wildcards))
    ]


def outdated(pattern):
    """A marker newer than the product, where a product with a plain name was made under another key than today's."""
    return lambda wildcards: atlas_workflow.outdated(ATLAS, pattern.format(**wildcards))


def reason(pattern):
    return lambda wildcards: atlas_workflow.reason(ATLAS, pattern.format(**wildcards))


def resource(pattern, name):
    return lambda wildcards: atlas_workflow.resource(ATLAS, pattern.format(**wildcards), name)


def print_verdicts():
    print(atlas_workflow.verdicts(ATLAS), file=sys.stderr)
