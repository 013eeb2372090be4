"""Every model of open_clip: used here, or refused with a reason; the page says the same."""

from pathlib import Path

from denseclip_mm.apis.checks.clips import CLIPModel, clip_models, page_of

import open_clip
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope='module')
def models() -> list[CLIPModel]:
    return clip_models()


@pytest.mark.one_stack
def test_models_are_used_or_refused_with_a_reason(models: list[CLIPModel]) -> None:
    pairs = [(model.name, tag) for model in models for tag in model.tags]
    assert sorted(pairs) == sorted(open_clip.list_pretrained())
    for model in models:
        assert (model.backbone is None) == bool(model.image_fault), model
        assert (model.text is None) == bool(model.text_fault), model
    used = [model for model in models if model.backbone and model.text]
    assert sum(len(model.tags) for model in used) == 183
    assert len(pairs) == 196
    reasons = {model.text_fault.split("'")[0] for model in models} | {
        model.image_fault.split("'")[0] for model in models}
    assert reasons == {
        '', 'is the Hugging Face model ', 'appends a class token (CoCa)',
        'pools neither at its class token nor by a mean', 'is the SwinTransformer of timm',
        'is the VisionTransformerRelPos of timm'}


def test_the_page_is_of_this_open_clip(models: list[CLIPModel]) -> None:
    """Written anew: python tools/analysis_tools/list_clips.py --out docs/clips.md."""
    assert (ROOT / 'docs/clips.md').read_text() == page_of(models)
