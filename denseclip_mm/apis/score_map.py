"""The score map of a picture, and the labels beside it, by one inference of the model.

The score map comes the way the logits do: windows of slide inference are averaged, padding is cut
off, and the map has the picture's size.

Shapes: B images, K classes, H, W size of the picture.
"""

from typing import Any

from denseclip_mm.apis.open_vocabulary import has_names, view_of
from denseclip_mm.models.score_map_head import ScoreMapHead

import torch
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn


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


@torch.no_grad()
def segment(model: EncoderDecoder, inputs_B3HW: Tensor,
            sample: SegDataSample) -> tuple[SegDataSample, Tensor | None]:
    """Segment a picture.

    Args:
        model: a segmentor in evaluation mode.
        inputs_B3HW: the picture (B = 1) as the model's data preprocessor gives it.
        sample: its metainfo; not changed.

    Returns:
        The result of the model's own ``predict``; and the score map (K, H, W), cosines, of the
        picture's size, None for a model without one. Where the score map labels the pixels, its
        ``argmax(0)`` is the result's ``pred_sem_seg``.
    """
    sample = SegDataSample(metainfo=sample.metainfo)
    head = model.decode_head
    if not has_names(model):
        return model.predict(inputs_B3HW, [sample])[0], None
    if isinstance(head, ScoreMapHead) and head.num_classes > 1:
        result = model.predict(inputs_B3HW, [sample])[0]
        return result, _cosines(result.seg_logits.data.float(), head.tau)

    num_classes = len(model.neck.class_names)
    neck = view_of(model.neck)
    neck.output_score_map = True
    view = view_of(model, neck=neck, decode_head=_BothHeads(model).eval())
    view.out_channels = model.out_channels + num_classes
    logits, score_map = view.inference(inputs_B3HW, [sample.metainfo]).split(
        [model.out_channels, num_classes], dim=1)
    if num_classes == 1:  # mmseg takes a single map for logits of a sigmoid
        score_map = score_map.expand(-1, 2, -1, -1)
    result = model.postprocess_result(logits, [sample])[0]
    at_size = model.postprocess_result(score_map, [SegDataSample(metainfo=sample.metainfo)])[0]
    return result, at_size.seg_logits.data[:num_classes].float()


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
        maps.append(segment(model, batch['inputs'], batch['data_samples'][0])[1])
    return torch.stack(maps).mean(0)


def _cosines(logits_KHW: Tensor, tau: float) -> Tensor:
    """Logits of the score map back to cosines.

    Rounding makes equals of two logits now and then; the smaller one is kept the smaller by one
    step, so that the largest cosine is that of the label.
    """
    cosines = logits_KHW * tau
    tied = (cosines == cosines.amax(0)) & (logits_KHW < logits_KHW.amax(0))
    cosines[tied] = cosines[tied].nextafter(cosines.new_tensor(float('-inf')))
    return cosines
