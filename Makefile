# What a person does with this checkout. `make` alone shows it; each target is a short script in tools/.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-run check test bench nix-matrix docs format lock clean

help:
	@tools/help

setup:
	@tools/setup

demo: setup
	@tools/demo.sh

demo-run: setup
	@tools/demo-run.sh

check: setup
	@tools/check

test:
	@tools/setup --for-tests
	@tools/test

bench: setup
	@tools/bench

nix-matrix:
	@tools/setup --for-tests
	@tools/nix-matrix

docs: setup
	@.venv/bin/python -m tools.reference

format: setup
	@.venv/bin/ruff check --quiet --fix-only . && .venv/bin/ruff format .

lock: setup
	@tools/lock

clean:
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
