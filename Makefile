# The commands people type, inside a virtual environment. `make lint types test` is the test command of README.md.
.PHONY: install lint types test demo

install:
	pip install -e '.[dev]'

lint:
	ruff check . && ruff format --check .

types:
	mypy

test:
	pytest -n 2 --dist loadfile

demo:
	mia-lightning demo
