# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: help demo test check serve lock audit sbom clean
help:  ## Say what can be made.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## Send a synthetic study to a node of its own, receive SEG and SR; see OUT (default: demo/).
	$(BIN)/glionode demo $(OUT)

test: $(VENV)/.installed-test  ## Install what the tests need, then run all of them.
	scripts/install-programs
	scripts/install-viewers
	scripts/check

check: $(VENV)/.installed-test  ## ruff, mypy --strict and pytest, without installing programs.
	scripts/check

serve: $(VENV)/.installed  ## Run a node with the settings of orthanc-config/glionode.toml.
	$(BIN)/glionode serve --config orthanc-config/glionode.toml

lock:  ## Write requirements/*.txt anew: every package with its version and hashes. Needs a package index.
	scripts/lock

audit:  ## Ask whether the locked packages have known vulnerabilities; says so where it cannot ask.
	scripts/audit

sbom:  ## Write a software bill of materials (CycloneDX) of what the node runs on to sbom.cdx.json.
	scripts/sbom

clean:  ## Remove what was made here.
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache *.egg-info build

$(VENV)/bin/python:
	scripts/make-venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements/node.txt | $(BIN)/python
	scripts/install $(VENV) requirements/node.txt --editable
	touch $@

$(VENV)/.installed-test: pyproject.toml requirements/test.txt | $(BIN)/python
	scripts/install $(VENV) requirements/test.txt --editable
	touch $@ $(VENV)/.installed
