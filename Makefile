# The commands people type, inside a virtual environment. `make lint types test` is the test command of README.md.
.PHONY: install lint types test slow demo

install:
	pip install -e '.[dev]'

lint:
	ruff check . && ruff format --check .

types:
	mypy

test:
	pytest -n 2 --dist loadfile

slow:
	pytest -n 2 --dist loadfile -m slow

demo:
	mia-lightning demo
