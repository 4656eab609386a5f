"""The methods of fifty papers as a library, and the pipeline that reproduces their experiments."""
