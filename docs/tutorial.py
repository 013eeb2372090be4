"""The main steps in one script, on a CPU and without a download: ``python docs/tutorial.py``.

Zero-shot segmentation, other names, training, a test, two answers of one model, export. Read it
from top to bottom, or open it as a notebook (the cells start with ``# %%``). It writes to
``work_dirs/tutorial``, which must not be there yet.
"""

# %% [markdown]
# # Setup
# `denseclip_mm` comes before mmseg: it repairs what mmseg's import needs under mmcv-lite.

# %%
from pathlib import Path

from denseclip_mm.apis.checkpoints.export import save_without_text_tower
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.apis.pictures.panels import draw_panels
from denseclip_mm.demo.scenes import draw

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
OUT = Path('work_dirs/tutorial')
OUT.mkdir(parents=True)

# %% [markdown]
# # A picture
# Scenes are drawn, so there is always one at hand: coloured shapes on a ground.

# %%
scene = np.ascontiguousarray(draw(seed=7, index=2, image_size=128)[0][..., ::-1])
Image.fromarray(scene).save(OUT / 'scene.png')

# %% [markdown]
# # Zero-shot
# CLIP, no training: every cell takes the class whose text is nearest to it. Any names will do.

# %%
clip = Predictor(ROOT / 'configs/demo/zero_shot_scenes.py', device='cpu')
clip.set_class_names(['water', 'grass', 'snow', 'brick wall', 'wooden floor', 'sand',
                      'red circle', 'blue square', 'green star', 'yellow ring'])
prediction = clip(OUT / 'scene.png')
print('zero-shot:', {prediction.class_names[k]: f'{share:.0%}'
                     for k, share in prediction.shares().items()})
Image.fromarray(prediction.overlay()).save(OUT / 'zero_shot.png')

# %% [markdown]
# # Training
# A config is an mmengine config; here the shipped one, shortened to 60 iterations on 40 scenes. The
# text tower stays frozen; contexts, context decoder, image tower and FPN learn.

# %%
cfg = Config.fromfile(ROOT / 'configs/demo/denseclip_fpn_scenes.py')
cfg.merge_from_dict(dict(
    work_dir=str(OUT / 'train'), train_cfg=dict(max_iters=60, val_interval=60),
    train_dataloader=dict(batch_size=4, dataset=dict(length=40)),
    val_dataloader=dict(dataset=dict(length=20)), test_dataloader=dict(dataset=dict(length=20)),
    custom_hooks=[dict(type='CheckClassesHook'),
                  dict(type='ScoreMapVisualizationHook', interval=10)]))
runner = Runner.from_cfg(cfg)
runner.train()
cfg.dump(OUT / 'config.py')
CHECKPOINT = OUT / 'train/iter_60.pth'

# %% [markdown]
# # Test
# The metric of the trained model, as `tools/test.py` computes it.

# %%
metrics = runner.test()
print('mIoU after 60 iterations:', metrics['mIoU'])

# %% [markdown]
# # Two answers
# The trained model has a decoder, for the classes of its training, and a score map, which answers
# any names.

# %%
model = Predictor(OUT / 'config.py', CHECKPOINT, device='cpu')
by_decoder = model(OUT / 'scene.png')
print(f'{model.labelled_by}: {len(by_decoder.class_names)} classes')
model.set_class_names(['grass', 'purple ring', 'snow;ice', 'water;sea'])
by_score_map = model(OUT / 'scene.png')
print(f'{model.labelled_by}: {by_score_map.class_names}')
panels = draw_panels(
    by_score_map.image, {'by the score map': by_score_map.labels},
    dict(enumerate(by_score_map.score_map)), names=by_score_map.class_names,
    palette=by_score_map.palette)
Image.fromarray(panels).save(OUT / 'score_maps.png')

# %% [markdown]
# # Without the text tower
# For use elsewhere the text embeddings are all that is needed of it.

# %%
trained = Predictor(OUT / 'config.py', CHECKPOINT, device='cpu')
config, checkpoint = save_without_text_tower(trained.model, OUT / 'exported')
exported = Predictor(config, checkpoint, device='cpu')
same = np.array_equal(exported(scene).labels, trained(scene).labels)
print(f'{CHECKPOINT.stat().st_size / 1e6:.1f} MB with optimiser and tower, '
      f'{checkpoint.stat().st_size / 1e6:.1f} MB without; the same labels: {same}')
