# One environment for every target: .venv, with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: setup demo prompts test test-onedl attack lint docs

setup: .venv/ready

.venv/ready: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[openmmlab,mmdet,dev]'
	touch $@

# The other stack: the same import names, put ahead on the path.
.venv/onedl/ready: .venv/ready
	rm -rf .venv/onedl
	$(BIN)/python -m pip install --quiet --no-deps --target .venv/onedl --constraint constraints.txt \
		onedl-mmsegmentation onedl-mmengine onedl-mmcv onedl-mmdetection \
		imaug imageio lazy-loader scikit-image tifffile
	touch $@

demo: .venv/ready
	$(BIN)/python tools/test.py configs/demo/zero_shot_scenes.py --work-dir work_dirs/demo/zero_shot
	$(BIN)/python tools/train.py configs/demo/denseclip_aggregate_scenes.py --work-dir work_dirs/demo
	$(BIN)/python tools/analysis_tools/draw_score_maps.py configs/demo/denseclip_aggregate_scenes.py \
		"$$(cat work_dirs/demo/last_checkpoint)" work_dirs/demo/demo.png --index 12 \
		--classes "wooden floor" "orange circle" "yellow triangle"

prompts: .venv/ready
	$(BIN)/python tools/demo/compare_prompts.py --out work_dirs/prompts

test: .venv/ready
	$(PYTEST)

test-onedl: .venv/onedl/ready
	PYTHONPATH=$(CURDIR)/.venv/onedl $(PYTEST) -m 'not one_stack'

# What has failed before, tried again and counted: docs/reliability.md.
attack: .venv/ready
	$(BIN)/python tests/attacks/run.py

lint: .venv/ready
	$(BIN)/ruff check .

docs: .venv/ready
	$(BIN)/mkdocs build --strict
