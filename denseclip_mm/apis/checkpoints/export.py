"""Trained models for use elsewhere: without the text tower, and as ONNX.

Text that does not depend on the image is a table of numbers once training is over; the tower that
made it is not needed any more.
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.checks.config import build_model
from denseclip_mm.apis.pictures import distinct_colours
from denseclip_mm.clip import is_place
from denseclip_mm.files import atomic_write
from denseclip_mm.models.neck import PixelTextNeck

import torch
from mmengine.config import Config
from mmseg.models import BaseSegmentor, EncoderDecoder
from mmseg.models.utils import Upsample
from torch import Tensor, nn
from torch.nn import functional as F


def drop_text_tower(model: nn.Module) -> None:
    """Put the text embeddings in the place of prompt and text tower; the outputs stay the same.

    A model without a text tower is left as it is.

    Args:
        model: a segmentor or detector, changed in place.

    Raises:
        ValueError: if the prompt depends on the image and needs the tower for every one, or the
            names were changed to another number than the wrapped neck takes score maps for.
    """
    neck = getattr(model, 'neck', None)
    if isinstance(neck, PixelTextNeck):
        neck.drop_text_encoder()


def save_without_text_tower(model: nn.Module, folder: Path) -> tuple[Path, Path]:
    """Write a config and a checkpoint without a text tower.

    ``mmseg.apis.init_model`` loads those of a segmentor, ``mmdet.apis.init_detector`` those of a
    detector.

    What is written is what the model now is, names and head included. It is loaded back, every
    tensor of it, and compared, before it takes the place of older files.

    Args:
        model: the model of ``init_model`` or ``init_detector``, or a view of a segmentor by
            :func:`answer_names <denseclip_mm.apis.open_vocabulary.answer_names>`; it is not
            changed.
        folder: where ``config.py`` and ``model.pth`` go.

    Returns:
        The paths of both.

    Raises:
        ValueError: see :func:`drop_text_tower`; or if the model has no config, heads and names
            disagree, or what was written gives other outputs.
    """
    if not hasattr(model, 'cfg'):
        raise ValueError('this model has no config to write, as an ensemble has none, and a '
                         'detector with other names')
    cfg, model = deepcopy(model.cfg), deepcopy(model).cpu().eval()
    drop_text_tower(model)
    if isinstance(getattr(model, 'neck', None), PixelTextNeck):
        cfg.model.neck.text_encoder = None
        cfg.model.neck.prompt = dict(type='TextEmbeddings', embed_dim=model.neck.embed_dim,
                                     num_prompts=model.neck.prompt.num_prompts)
        names = list(model.neck.class_names)
        cfg.model.neck.class_names = names
        if list(model.dataset_meta['classes']) != names:  # they were changed in the neck
            model.dataset_meta = dict(classes=tuple(names), palette=distinct_colours(len(names)))
    if is_place(getattr(model.backbone, 'model', None)):  # which may be elsewhere, or change
        cfg.model.backbone.model = model.backbone.config
    if 'pretrained' in cfg.model.backbone:
        cfg.model.backbone.pretrained = None
    config, checkpoint = folder / 'config.py', folder / 'model.pth'
    with atomic_write(config) as new_config, atomic_write(checkpoint) as new_checkpoint:
        torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta)),
                   new_checkpoint)
        cfg.dump(new_config)
        written = build_model(Config.fromfile(new_config), 'cpu')
        load_checkpoint(written, new_checkpoint)
        if not all(map(torch.equal, _some_outputs(written), _some_outputs(model))):
            raise ValueError('the written files give other outputs than the model; nothing was '
                             'exported')
    return config, checkpoint


@torch.no_grad()
def _some_outputs(model: nn.Module) -> Sequence[Tensor]:
    """Logits of a segmentor; of a detector what its heads take."""
    size = (128, 160)
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    if not isinstance(model, BaseSegmentor):
        return model.extract_feat(images)
    return model.encode_decode(images, [dict(img_shape=size, ori_shape=size, pad_shape=size)])


class WholeImage(nn.Module):
    """A segmentor from pixels to logits, in whole-image mode, with nothing but tensors.

    Args:
        model: the segmentor; a copy is kept.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = deepcopy(model)
        self.eval()
        for parent in list(self.model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, Upsample):  # takes its size for a constant in export
                    setattr(parent, name, nn.Upsample(
                        child.size, child.scale_factor, child.mode, child.align_corners))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, 3, H, W), RGB in [0, 255]."""
        normalise = self.model.data_preprocessor
        features = self.model.extract_feat((images - normalise.mean) / normalise.std)
        return F.interpolate(self.model.decode_head(features), size=images.shape[2:],
                             mode='bilinear', align_corners=self.model.align_corners)


def check_onnx(model: nn.Module) -> None:
    """Raise a ValueError if the model is a detector, or onnxruntime is missing."""
    if not isinstance(model, BaseSegmentor):
        raise ValueError(f'{type(model).__name__} is a detector, and mmdet has no ONNX of its '
                         'detectors; export with --formats pth')
    if find_spec('onnxruntime') is None:
        raise ValueError("ONNX needs more packages: pip install 'denseclip_mm[onnx]', or export "
                         'with --formats pth')


def export_onnx(model: EncoderDecoder, path: Path, sizes: Sequence[tuple[int, int]]) -> float:
    """Write a segmentor as ONNX and compare it with PyTorch in onnxruntime.

    The text embeddings are constants; where they depend on the image, the text tower is part of
    the graph. The input is ``images`` (B, 3, H, W), float32, RGB in [0, 255], of any size; the
    output ``logits`` (B, K, H, W). The class names are in the file's metadata, as JSON.

    Args:
        model: the segmentor, with its weights; it is not changed.
        path: the file to write; it stays unwritten if the results differ.
        sizes: heights and widths to compare at.

    Returns:
        The largest difference of a logit, over the largest logit.

    Raises:
        ValueError: see :func:`check_onnx`; or if a difference is over 1e-3.
    """
    check_onnx(model)
    import onnxruntime

    whole = WholeImage(model)
    neck = getattr(whole.model, 'neck', None)
    if isinstance(neck, PixelTextNeck) and not neck.prompt.depends_on_image:
        drop_text_tower(whole.model)
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.onnx.export(
            whole, (torch.rand(2, 3, 96, 160) * 255, ), dynamo=True, verbose=False,
            input_names=['images'], output_names=['logits'],
            dynamic_shapes=dict(images={0: dynamic, 2: dynamic, 3: dynamic}))
    program.model.metadata_props['classes'] = json.dumps(list(model.dataset_meta['classes']))
    worst = 0.0
    with atomic_write(path) as part:
        program.save(part)
        session = onnxruntime.InferenceSession(part)
        for count, size in enumerate(sizes, start=1):
            images = torch.rand(count, 3, *size) * 255
            with torch.no_grad():
                expected = whole(images)
            logits = torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
            worst = max(worst, float((logits - expected).abs().max() / expected.abs().max()))
        if worst > 1e-3:
            raise ValueError(f'the logits in onnxruntime differ from those of PyTorch by '
                             f'{worst:.1e} of the largest; nothing was written')
    return worst
