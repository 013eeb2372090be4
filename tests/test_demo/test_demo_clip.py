"""The small CLIP that the package carries: it is whole, it is small, and it knows the scenes."""

from pathlib import Path

import denseclip_mm
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.demo.captions import render_group
from denseclip_mm.demo.render import BASE_CLASSES, CLASSES, NEW_CLASSES
from denseclip_mm.demo.scenes import draw
from denseclip_mm.text import grow_trees

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = Path(denseclip_mm.__file__).parent / 'demo/demo_clip.pt'
UNSEEN = 5000  # a seed that neither pretraining nor any config uses


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    """The zero-shot config's model, as ``tools/test.py`` builds it."""
    cfg = Config.fromfile(ROOT / 'configs/demo/zero_shot_scenes.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.eval()


def test_open_clip_reads_it() -> None:
    state = torch.load(WEIGHTS, weights_only=True)
    assert WEIGHTS.stat().st_size <= 12e6
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    clip = open_clip.create_model('DemoCLIP', pretrained=str(WEIGHTS), load_weights=True)
    for key, value in clip.state_dict().items():
        torch.testing.assert_close(value, state[key].to(value.dtype), msg=key)


@pytest.mark.parametrize(('dense_embedding', 'classes', 'floor'), [
    ('value', BASE_CLASSES, 45.0), ('value', NEW_CLASSES, 75.0),
    ('value-value', BASE_CLASSES, 55.0), ('value-value', NEW_CLASSES, 60.0)])
@torch.no_grad()
def test_zero_shot_floor(model, dense_embedding: str, classes: tuple[str, ...], floor: float,
                         monkeypatch) -> None:
    """On scenes that it never saw; the new classes had no caption either."""
    monkeypatch.setattr(model.backbone.tower.attnpool, 'dense_embedding', dense_embedding)
    model = answer_names(model, classes)
    own = np.full(256, 255)
    own[[CLASSES.index(name) for name in classes]] = range(len(classes))
    areas = torch.zeros(4, len(classes))
    for index in range(24):
        image, labels = draw(UNSEEN, index, 128)
        batch = model.data_preprocessor(
            dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)]), False)
        prediction = model.encode_decode(batch['inputs'], [dict(
            img_shape=(128, 128), ori_shape=(128, 128), pad_shape=(128, 128))]).argmax(1)[0]
        areas += torch.stack(IoUMetric.intersect_and_union(
            prediction, torch.from_numpy(own[labels]), len(classes), 255))
    miou = 100 * (areas[0] / areas[1]).nanmean().item()
    assert miou > floor, miou


@torch.no_grad()
def test_captions_find_their_scenes(model) -> None:
    """Among four captions that differ in the shape alone, the right one."""
    tower, rng, right = model.neck.text_encoder, np.random.default_rng(UNSEEN), []
    for _ in range(40):
        images, captions, _ = render_group(rng, 128)
        batch = model.data_preprocessor(dict(inputs=[
            torch.from_numpy(image).permute(2, 0, 1) for image in images]), False)
        image_BC = model.backbone(batch['inputs'])[-1][0]
        text = tower(grow_trees([tower.prompt(tower.tokenize(each)) for each in captions]))[0]
        scores = F.normalize(image_BC, dim=1) @ F.normalize(text, dim=1).T
        right += (scores.argmax(1) == torch.arange(len(captions))).tolist()
    assert np.mean(right) > 0.95, np.mean(right)
