"""What a segmentor makes of a picture: labels, and the score map beside them, by one inference.

The score map comes the way the logits do: windows of slide inference are averaged, padding is cut
off, and the map has the picture's size.

Shapes: B images, K classes, H, W size of the picture.
"""

from collections.abc import Sequence
from typing import Any

from denseclip_mm.apis.open_vocabulary import has_score_map
from denseclip_mm.apis.prediction import Prediction
from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.ensemble_head import EnsembleHead
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.views import view_of

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor, EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

_AT_ONCE = 2**25  # numbers of maps of the picture's size
# Maps that are resized together: fewer than four may differ by a bit from the same ones among
# others, and one alone is to mmseg what a sigmoid is taken of.
_FEWEST = 4
_ROWS = 256  # of the picture, whose exponentials are held at a time
_LABELLED_BY = {ScoreMapHead: 'score map', CostAggregationHead: 'aggregation head',
            EnsembleHead: 'decode head and score map'}


class ScoreMaps:
    """The score maps of a picture, made when they are asked for: they may be gigabytes.

    Args:
        model: the segmentor that made the logits.
        logits_1Khw: its logits or cosines as ``inference`` gives them, before they get the
            picture's size.
        sample: the picture's metainfo.
        tau: the temperature that takes logits back to cosines.
    """

    def __init__(self, model: EncoderDecoder, logits_1Khw: Tensor, sample: SegDataSample,
                 tau: float) -> None:
        self.model = model
        self.logits_1Khw = logits_1Khw
        self.sample = sample
        self.tau = tau
        self.device = logits_1Khw.device
        self.best_HW: Tensor | None = None  # the largest logit, once labels were asked for

    def __len__(self) -> int:
        """How many classes there are."""
        return self.logits_1Khw.shape[1]

    def __call__(self, classes: slice | Sequence[int] = slice(None)) -> np.ndarray:
        """As :meth:`cosines`; what makes the maps lies in the main memory from now on."""
        self.logits_1Khw = self.logits_1Khw.cpu()
        return self.cosines(classes).cpu().numpy()

    @torch.no_grad()
    def cosines(self, classes: slice | Sequence[int] = slice(None)) -> Tensor:
        """Cosines (k, H, W) of some classes, or of all."""
        logits_kHW = self._at_size(classes)[0]
        return logits_kHW if self.best_HW is None else _cosines(
            logits_kHW, self.tau, self.best_HW.to(self.device))

    def best(self) -> Tensor:
        """The largest cosine (H, W)."""
        return self.cosines().amax(0) if self.best_HW is None else self.best_HW * self.tau

    def labels(self) -> Tensor:
        """The class with the largest logit (H, W), a few classes at a time."""
        count = max(_FEWEST, _AT_ONCE // int(np.prod(self.sample.ori_shape)))
        if not self.logits_1Khw.is_contiguous():  # channels last: other bits in groups
            count = len(self)
        labels_HW = None
        for group in torch.arange(len(self)).split(count):
            logits_kHW, best_of_group_HW = self._at_size(group.tolist())
            most_HW = logits_kHW.amax(0)
            if labels_HW is None:
                labels_HW, self.best_HW = best_of_group_HW, most_HW
                continue
            larger_HW = most_HW > self.best_HW
            labels_HW[larger_HW] = best_of_group_HW[larger_HW] + group[0].item()
            self.best_HW = torch.maximum(self.best_HW, most_HW)
        return labels_HW

    def _at_size(self, classes: slice | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits of the picture's size, and the largest of them."""
        logits_1khw = self.logits_1Khw[:, classes].to(self.device)
        count, fewest = logits_1khw.shape[1], min(_FEWEST, max(2, len(self)))
        if count < fewest:
            logits_1khw = torch.cat([logits_1khw, logits_1khw[:, :1].expand(
                -1, fewest - count, -1, -1)], dim=1)
        sample = SegDataSample(metainfo=self.sample.metainfo)
        result = self.model.postprocess_result(logits_1khw, [sample])[0]
        return result.seg_logits.data[:count].float(), result.pred_sem_seg.data[0]


def labelled_by(model: BaseSegmentor) -> str:
    """What labels the pixels, see :class:`Prediction <denseclip_mm.apis.Prediction>`."""
    return next((answer for head, answer in _LABELLED_BY.items()
                 if isinstance(model.decode_head, head)), 'decode head')


def predict(model: BaseSegmentor, image: np.ndarray, inputs_13HW: Tensor,
            sample: Any) -> Prediction:
    """Segment a picture.

    Args:
        model: a segmentor or a view of one, in evaluation mode, with ``dataset_meta``.
        image: the picture (H, W, 3), RGB.
        inputs_13HW: it, as the model's data preprocessor gives it.
        sample: its metainfo.
    """
    result, maps = segment(model, inputs_13HW, sample)
    scores_HW = (maps.best() if isinstance(model.decode_head, ScoreMapHead)
                 else _probability(result))
    return Prediction(
        image=image, labels=result.pred_sem_seg.data[0].cpu().numpy(),
        scores=scores_HW.cpu().numpy(),
        score_map=maps,
        class_names=list(model.dataset_meta['classes']),
        palette=list(model.dataset_meta['palette']), labelled_by=labelled_by(model))


@torch.no_grad()
def segment(model: EncoderDecoder, inputs_B3HW: Tensor,
            sample: SegDataSample) -> tuple[SegDataSample, ScoreMaps | None]:
    """Segment a picture.

    Args:
        model: a segmentor in evaluation mode.
        inputs_B3HW: the picture (B = 1) as the model's data preprocessor gives it.
        sample: its metainfo; not changed.

    Returns:
        The result of the model's own ``predict``, without logits where the score map labels the
        pixels; and the score maps, cosines, of the picture's size, None for a model without them.
        Where they label the pixels, their ``argmax(0)`` is the result's ``pred_sem_seg``.
    """
    sample = SegDataSample(metainfo=sample.metainfo)
    head = model.decode_head
    if not has_score_map(model):
        return model.predict(inputs_B3HW, [sample])[0], None
    if isinstance(head, ScoreMapHead) and head.num_classes > 1:
        maps = ScoreMaps(model, model.inference(inputs_B3HW, [sample.metainfo]), sample, head.tau)
        sample.pred_sem_seg = PixelData(data=maps.labels()[None])
        return sample, maps

    num_classes = len(model.neck.class_names)
    view = view_of(model, neck=model.neck.view(), decode_head=_BothHeads(model).eval())
    view.out_channels = model.out_channels + num_classes
    logits, cosines = view.inference(inputs_B3HW, [sample.metainfo]).split(
        [model.out_channels, num_classes], dim=1)
    maps = ScoreMaps(model, cosines.clone(), sample, 1)
    return model.postprocess_result(logits, [sample])[0], maps


def score_map_of(model: EncoderDecoder, data_batch: dict[str, Any], index: int) -> Tensor:
    """Cosines of a picture of a batch with every class: (K, H, W), of the picture's size.

    Views of test time augmentation are averaged. This takes one more inference of the picture.

    Args:
        model: a segmentor with a :class:`PixelTextNeck`, in evaluation mode.
        data_batch: a batch of the dataloader.
        index: which image of the batch.
    """
    views = zip(data_batch['inputs'], data_batch['data_samples'], strict=True)
    if isinstance(data_batch['inputs'][0], Tensor):  # no test time augmentation
        views = [(data_batch['inputs'], data_batch['data_samples'])]
    maps = []
    for inputs, samples in views:
        batch = model.data_preprocessor(dict(inputs=[inputs[index]], data_samples=[samples[index]]))
        maps.append(segment(model, batch['inputs'], batch['data_samples'][0])[1].cosines())
    return torch.stack(maps).mean(0)


class _BothHeads(nn.Module):
    """The decode head and the score map, channel after channel."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.decode_head = model.decode_head
        self.own = slice(None if model.neck.output_score_map else -1)
        self.score_map = ScoreMapHead(num_classes=len(model.neck.class_names), tau=1,
                                      align_corners=model.align_corners)

    def predict(self, outputs: tuple[Tensor, ...], *args: Any) -> Tensor:
        """As ``BaseDecodeHead.predict``: logits, then cosines."""
        return torch.cat([self.decode_head.predict(outputs[self.own], *args),
                          self.score_map.predict(outputs, *args)], dim=1)


def _cosines(logits_kHW: Tensor, tau: float, best_HW: Tensor) -> Tensor:
    """Logits of the score map back to cosines.

    Rounding makes equals of two logits now and then; the smaller one is kept the smaller by one
    step, so that the largest cosine is that of the label.

    Args:
        logits_kHW: of some classes.
        tau: the temperature.
        best_HW: the largest logits of all classes.
    """
    cosines = logits_kHW * tau
    tied = (cosines == best_HW * tau) & (logits_kHW < best_HW)
    cosines[tied] = cosines[tied].nextafter(cosines.new_tensor(float('-inf')))
    return cosines


def _probability(result: Any) -> Tensor:
    """Of the labels (H, W)."""
    logits_KHW = result.seg_logits.data.float()
    if len(logits_KHW) > 1:
        return torch.cat([(rows_KhW.amax(0) - rows_KhW.logsumexp(0)).exp()
                          for rows_KhW in logits_KHW.split(_ROWS, dim=1)])
    return (1 - logits_KHW).where(result.pred_sem_seg.data == 0, logits_KHW)[0]  # of a sigmoid
