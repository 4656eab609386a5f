"""The experiments: one module a paper, with its stage functions, its analysis and its figures. No I/O."""
