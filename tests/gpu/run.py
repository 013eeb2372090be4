"""Everything that a model does, once on the CPU and once on the GPU of ``pretend.py``, compared.

python tests/gpu/run.py CONFIG ...

Prints a line for each config: 'equal', or what was not.
"""

import logging
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from denseclip_mm import Predictor
from denseclip_mm.apis.checks.config import build_model, load_config
from denseclip_mm.apis.checks.heads import check_heads
from denseclip_mm.apis.open_vocabulary import has_score_map
from denseclip_mm.apis.regions import assign_regions
from denseclip_mm.apis.regions.colour_prompts import search_colours
from denseclip_mm.demo.scenes import draw
from denseclip_mm.models.aggregation_head import CostAggregationHead

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from pretend import pretend_gpu
from torch import nn

BGR, LABELS = draw(1, 7, 128)
RGB = BGR[..., ::-1].copy()
NAMES = ['snow', 'sand', 'red circle;a ring', 'grass']
MASKS = np.stack([label == LABELS for label in np.unique(LABELS)[:3]])


def starts(path: str, device: str) -> Iterator[np.ndarray]:
    """Weights as a training finds them, checked on the device, and the losses of a batch."""
    cfg = load_config(path, options=None, launcher='none', work_dir=None)
    torch.manual_seed(0)
    model = build_model(cfg, device)
    model.init_weights()
    check_heads(model)
    cfg.train_dataloader.dataset.pipeline = [
        step for step in cfg.train_pipeline if step.type != 'RandomFlip']
    data = DATASETS.build(cfg.train_dataloader.dataset)
    model.train()
    torch.manual_seed(0)
    for module in model.modules():  # draws of the CPU are not those of a GPU
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.
        elif isinstance(module, CostAggregationHead):
            module.class_dropout = 0
    batch = model.data_preprocessor(pseudo_collate([data[0], data[1]]), True)
    for name, loss in model(**batch, mode='loss').items():
        if 'loss' in name:
            yield sum(loss).cpu().numpy() if isinstance(loss, list) else loss.cpu().numpy()


def serves(path: str, checkpoint: str, device: str) -> Iterator[np.ndarray]:
    """What a predictor says of a picture, by its own names and by others, whole and in regions."""
    predictor = Predictor(path, checkpoint, device=device)
    fixed = predictor.labelled_by == 'decode head'
    predictor.set_image(RGB)
    answers = [predictor.predict()]
    if has_score_map(predictor.model) and not predictor.model.neck.prompt.class_specific:
        answers.append(predictor.predict(NAMES))
        if not predictor.detects:
            answers.append(predictor.predict(['grass'], other=0.3))
        if 'zero_shot_scenes' in path:
            yield from regions(predictor.model)
    for answer in answers:
        yield answer.scores
        if answer.score_map is not None:
            yield answer.score_map
    if fixed and has_score_map(predictor.model):
        yield Predictor(path, checkpoint, device=device, ensemble=(0.5, 0.5))(RGB).scores


def regions(model: nn.Module) -> Iterator[np.ndarray]:
    """Scores of three regions, each way."""
    for how in ('pool', 'colour', 'blur'):
        yield assign_regions(model, RGB, MASKS, NAMES, how=how)[0]
    found = search_colours(model, [RGB], [MASKS], NAMES)
    yield np.array([found.opacity])


def compare(path: str, folder: str) -> str:
    """'equal', or the first thing that is not."""
    checkpoint = f'{folder}/{Path(path).stem}.pth'
    cfg = load_config(path, options=None, launcher='none', work_dir=None)
    torch.manual_seed(0)
    model = build_model(cfg, 'cpu')
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    found = []
    for device in ('cpu', 'pretend:0'):
        with torch.no_grad() if device == 'cpu' else pretend_gpu():
            found.append([*starts(path, device), *serves(path, checkpoint, device)])
    differing = [place for place, (a, b) in enumerate(zip(*found, strict=True))
                 if not np.allclose(a, b, rtol=1e-3, atol=1e-4)]
    return f'{differing} of {len(found[0])} differ' if differing else 'equal'


def main() -> None:
    """Compare them all."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for path in sys.argv[1:]:
            try:
                said = compare(path, folder)
            except Exception as error:
                traceback.print_exc()
                said = f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
            print(f'{path}: {said}', flush=True)


if __name__ == '__main__':
    main()
