# Two commands do everything on a fresh machine with Python 3.11, pip, make and apt-get:
#   make atlas                 install, then reproduce every declared paper at the laptop scale
#   make atlas PAPERS="mfac"   the same for some papers
#   make test                  install, then run the whole test suite

PYTHON ?= python3
CORES ?= 2
PAPERS ?=
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

empty :=
space := $(empty) $(empty)
comma := ,
CONFIG := $(if $(PAPERS),--config "papers=[$(subst $(space),$(comma),$(strip $(PAPERS)))]")

.PHONY: install atlas test

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml envs/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint envs/constraints.txt
	touch $@

atlas: install
	snakemake --cores $(CORES) $(CONFIG)

test: install
	pytest
