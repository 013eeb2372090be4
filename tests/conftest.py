"""Fixtures: towers small enough for a CPU, in open_clip's own config format."""

import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch

os.environ.setdefault('HF_HUB_OFFLINE', '1')  # read when huggingface_hub is imported

import denseclip_mm  # noqa: F401  (first: it repairs what mmseg's import needs)

from mmengine.registry import init_default_scope  # isort: skip

init_default_scope('mmseg')  # as every tool and init_model do
torch.set_num_threads(1)  # tiny operators; threads that wait for each other are no help

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'

TINY_TEXT = dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2)
TINY_RESNET = dict(
    embed_dim=24, quick_gelu=True, text_cfg=TINY_TEXT,
    vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8))
TINY_VIT = dict(
    embed_dim=24, quick_gelu=True, text_cfg=TINY_TEXT,
    vision_cfg=dict(image_size=64, layers=4, width=64, head_width=32, patch_size=16))


@pytest.fixture
def tiny_resnet() -> dict:
    """open_clip config of a ModifiedResNet of 8 to 256 channels and a 2-layer text tower."""
    return deepcopy(TINY_RESNET)


@pytest.fixture
def tiny_vit() -> dict:
    """open_clip config of a 4-layer ViT and a 2-layer text tower."""
    return deepcopy(TINY_VIT)


@pytest.fixture
def shared() -> Path:
    """The folder of reference values and data beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f'{SHARED} with reference values and data is absent')
    return SHARED
